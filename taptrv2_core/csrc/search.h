// What the fused search is given: plain pointers and sizes, as in window.h.
#pragma once

#include "window.h"

namespace taptrv2 {

// How numbers in a line become more of them: result i lies between first[i] and second[i], `share` of the way.
struct Between {
  const int* first;
  const int* second;
  const float* share;
};

struct SearchLevel {
  const void* given;  // (given_height, given_width, C), memory
  int given_height, given_width;
  bool halved;           // its cells are means of four of what is given, else what is given
  int height, width;     // of its cells
  int start;             // its first row of logits
  Packed queries;        // what is looked for, as a layer without bias
  Between down, across;  // from the size of its cells to that of the first level's
};

struct Search {
  int levels, channels;
  int queries, columns;   // N, and N rounded up to whole panels
  const float* nowhere;   // (columns) logits
  const float* position;  // (N, 2)
  float* logits;          // (cells of all levels, columns)
  SearchLevel level[kMaxLevels];
  int cells() const { return level[0].height * level[0].width; }
};

// The least probability of an agreement; when a place is taken to be a point's, as in taptrv2_core/search.py.
struct Limits {
  float least, sure, better;
};

}  // namespace taptrv2
