// What a fused convolution is given: plain pointers and sizes, as in window.h. Images are
// float or bfloat16 (T), channels last.
#pragma once

#include "window.h"

namespace taptrv2 {

constexpr int kTile = 4;           // outputs of a tile in each direction
constexpr int kPatch = kTile + 2;  // inputs of a tile
constexpr int kProducts = kPatch * kPatch;
constexpr int kMaxTiles = 32;  // tiles that go through a convolution together

// A 3 x 3 convolution of stride 1, padding 1.
struct Convolve {
  int height, width, inputs, outputs;
  int tile_columns;
  const void* given;    // (B, H, W, inputs) of T
  const void* add;      // (B, H, W, outputs) of T; null: nothing
  const float* weight;  // of each panel of 32 outputs: (kProducts, inputs, 32)
  const float* bias;    // (outputs)
  bool relu;
  void* result;  // (B, H, W, outputs) of T
};

}  // namespace taptrv2
