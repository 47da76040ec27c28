// What the fused input projections are given: plain pointers and sizes, as in window.h. T is float or bfloat16.
#pragma once

#include "window.h"

namespace taptrv2 {

// Features of one level and what makes tokens of them.
struct ProjectLevel {
  const void* given;     // (B, cells, inputs) of T
  int64_t cells, start;  // how many, and the level's first token
  int inputs;
  Packed layer;
  Norm norm;
};

struct Project {
  int64_t tokens;    // S
  int channels;      // C
  float* projected;  // (B, S, C), before they are normalised
  void* result;      // (B, S, C) of T
};

}  // namespace taptrv2
