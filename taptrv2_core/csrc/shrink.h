// What the reduction of an image is given: plain pointers and sizes.
#pragma once

#include <cstdint>

namespace taptrv2 {

// How a line of pixels becomes a shorter one: each result is the average over `first` and the pixels behind it.
struct Averages {
  const int* first;      // (results)
  const int* count;      // (results)
  const float* weights;  // (results, most)
  int most;
};

struct Shrink {
  int width, results;    // pixels of a row, before and after
  const uint8_t* given;  // (rows, width, 3)
  float* result;         // (rows, results, 3) in [0, 1]
  Averages down, across;
};

}  // namespace taptrv2
