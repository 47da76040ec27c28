// What a fused layer of the encoder is given: plain pointers and sizes, as in window.h. All floats.
#pragma once

#include "window.h"

namespace taptrv2 {

struct Encode {
  int64_t tokens;  // S
  int channels, heads, feedforward, samples;
  Problem levels;             // offsets and reference are set token by token
  const float* given;         // (B, S, C)
  const float* code;          // (S, C)
  const float* reference;     // (S, 2)
  float* value;               // (B, S, C)
  float* result;              // (B, S, C)
  Packed value_layer;         // in the order of taptrv2_core/fused_encoder.py
  Packed offsets_and_logits;  // 2 * K offsets, then K logits
  Packed output;
  Norm norm_attention;
  Packed forward[2];
  Norm norm_forward;
};

}  // namespace taptrv2
