// What optical flow is given: plain pointers and sizes.
#pragma once

#include <cstdint>

namespace taptrv2 {

constexpr int kFlowWindow = 21;  // pixels square, around a point
constexpr int kFlowLevels = 4;
// Around each image of a pyramid: pixels reflected at its borders, then pixels that are read and not used.
constexpr int kFlowBorder = kFlowWindow + 1, kFlowLine = 2 * kFlowBorder + 20;

// One image of a pyramid, each half as large as the one before.
struct FlowLevel {
  int16_t* pixels;  // of (0, 0), 0 to 255; a row is `stride` after the one before. Compilers widen bytes badly.
  int width, height, stride;
};

struct FlowPyramid {
  int levels;
  FlowLevel level[kFlowLevels];
};

struct Flow {
  FlowPyramid before, after;
  const float* xy;  // (N, 2) pixels of `before`
  float* moved;     // (N, 2), where they are in `after`
  float* returned;  // (N, 2), where those are in `before`
  bool* found;      // (N), whether both could be followed
};

}  // namespace taptrv2
