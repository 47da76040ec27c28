// What a fused layer of the encoder is given: plain pointers and sizes, as in window.h. T is float or
// bfloat16; layers of bfloat16 have pairs of inputs in place of inputs.
#pragma once

#include "window.h"

namespace taptrv2 {

struct Encode {
  int64_t tokens;  // S
  int channels, heads, feedforward, samples;
  Problem levels;             // offsets and reference are set token by token
  const void* given;          // (B, S, C) of T
  const void* code;           // (S, C) of T
  const float* reference;     // (S, 2)
  void* value;                // (B, S, C) of T
  void* result;               // (B, S, C) of T
  Packed value_layer;         // in the order of taptrv2_core/fast/encoder.py
  Packed offsets_and_logits;  // 2 * K offsets, then K logits
  Packed output;
  Norm norm_attention;
  Packed forward[2];
  Norm norm_forward;
};

}  // namespace taptrv2
