// What the refiner is given: plain pointers and sizes. Names and numbers as in taptrv2_core/refine.py.
#pragma once

#include "window.h"

namespace taptrv2 {

constexpr int kSide = 31;        // samples along a side of a patch
constexpr int kCells = 16;       // cells along a side, of two samples each
constexpr int kHidden = 8;       // channels between a patch and its features
constexpr int kFeatures = 16;    // channels
constexpr int kGaussNewton = 2;  // steps
constexpr int kSpreadInputs = 3 * kGaussNewton + 4 + kFeatures;
constexpr int kRefinePlane = 19 * 32;  // floats of a channel: its cells, and some around
constexpr int kRefineScratch = (4 + kHidden + 3 * kFeatures) * kRefinePlane;

// A convolution. weight: of four outputs at a time (taps, 4); a tap is an input channel, a row and a column.
struct RefineLayer {
  const float* weight;
  const float* bias;
};

struct Refine {
  int height, width;
  const uint8_t* image;                // (height, width)
  const float* xy;                     // (N, 2) pixels
  const int64_t* rows;                 // (N), of what is kept
  const float* features;               // (M, kFeatures, kCells, kCells)
  const float* weight;                 // (M, kCells, kCells) logits
  const float* contrast;               // (M)
  RefineLayer patch, hidden, context;  // in the order of taptrv2_core/fast/refine.py
  const float* doubt;                  // (kFeatures), then its bias
  const float* damping;                // (1)
  Packed spread[3];
  float* offset;  // (N, 2)
  float* result;  // (N) spread
};

}  // namespace taptrv2
