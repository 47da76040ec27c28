// Attention of heads of 32 channels with few samples: a group of lanes works on one item, all groups of a warp on as
// many. Nothing has to be summed over groups, and each lane places a share of its own item's samples.
#pragma once

#include "samples.cuh"

namespace taptrv2 {

constexpr int kFewSamples = 16, kHeadWarps = 2, kHeadChannels = 32;

inline bool few_samples(const Problem& p) {
  const int64_t items = p.batches * p.queries * p.heads;
  return p.channels == kHeadChannels && p.levels * p.points <= kFewSamples && items < (int64_t(1) << 31) - 4096;
}

template <typename T>
struct HeadGroups {
  static constexpr int VEC = 16 / int(sizeof(T)), LANES = kHeadChannels / VEC, GROUPS = kWarp / LANES;
  static constexpr int OF_BLOCK = kHeadWarps * GROUPS;
  static constexpr int OWN = kFewSamples / LANES;  // samples that a lane places: its number, + LANES, ...
  using Vector = Pack<T, VEC>;

  __device__ static inline int lane() { return threadIdx.x % LANES; }
  __device__ static inline int of_block() { return threadIdx.x / LANES; }
  __device__ static inline float sum(float v) {
#pragma unroll
    for (int step = 1; step < LANES; step *= 2) v += __shfl_xor_sync(kAllLanes, v, step);
    return v;
  }
  __device__ static inline float largest(float v) {
#pragma unroll
    for (int step = 1; step < LANES; step *= 2) {
      const float other = __shfl_xor_sync(kAllLanes, v, step);
      v = other > v ? other : v;
    }
    return v;
  }
};

// What is read of a sample: tokens of its corners, -1 where there is nothing to read, and their weights.
struct __align__(16) Corners {
  float weight[4];
  int token[4];
};

// One more than the samples: groups read at the same time, from different banks.
using CornersOfItem = Corners[kFewSamples + 1];

struct HeadItem {
  unsigned number, row, batch, query;  // row: (batch, query)
  int head;
  bool there;

  __device__ HeadItem(const Problem& p, unsigned n) {
    there = n < unsigned(p.batches * p.queries * p.heads);
    number = there ? n : 0;
    row = number / unsigned(p.heads);
    head = int(number - row * unsigned(p.heads));
    batch = row / unsigned(p.queries);
    query = row - batch * unsigned(p.queries);
  }
};

// Places sample k of the item; its corners' weights are multiplied by `weight`. Samples beyond the last are empty.
template <typename T>
__device__ inline void place_sample(const Problem& p, const HeadItem& item, int k, float weight, Corners& corners) {
  const int samples = p.levels * p.points;
  if (k >= samples) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      corners.weight[c] = 0;
      corners.token[c] = -1;
    }
    return;
  }
  const int level = k / p.points, columns = p.width[level], rows = p.height[level];
  const int64_t at = (int64_t(item.number) * samples + k) * 2;
  float x = read_number<T>(p.offsets, p.offsets_in_storage, at);
  float y = read_number<T>(p.offsets, p.offsets_in_storage, at + 1);
  if (p.reference) {
    const float* reference = static_cast<const float*>(p.reference) + item.batch * p.reference_stride + item.query * 2;
    x = reference[0] * float(columns) + x - 0.5f;
    y = reference[1] * float(rows) + y - 0.5f;
  } else {
    x = x * float(columns) - 0.5f;
    y = y * float(rows) - 0.5f;
  }
  const bool near = x > -1.f && x < float(columns) && y > -1.f && y < float(rows);  // false for NaN too
  x = near ? x : 0.f;
  y = near ? y : 0.f;
  const float floor_x = floorf(x), floor_y = floorf(y);
  const int x0 = int(floor_x), y0 = int(floor_y);
  const float fx = x - floor_x, fy = y - floor_y;
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    const int column = x0 + (c & 1), line = y0 + (c >> 1);
    const bool inside = near && column >= 0 && column < columns && line >= 0 && line < rows;
    corners.weight[c] = inside ? (c & 1 ? fx : 1.f - fx) * (c >> 1 ? fy : 1.f - fy) * weight : 0.f;
    corners.token[c] = inside ? p.start[level] + line * columns + column : -1;
  }
}

template <typename T>
__device__ inline void read_vectors(const T* base, int64_t token_stride, const Corners& corners,
                                    typename HeadGroups<T>::Vector (&vectors)[4]) {
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    vectors[c] = HeadGroups<T>::Vector::zero();
    if (corners.token[c] >= 0) {
      vectors[c] = HeadGroups<T>::Vector::read(base + corners.token[c] * token_stride);
    }
  }
}

template <typename T>
__device__ inline void add_corners(const typename HeadGroups<T>::Vector (&vectors)[4], const Corners& corners,
                                   float (&sum)[HeadGroups<T>::VEC]) {
#pragma unroll
  for (int c = 0; c < 4; ++c) {
#pragma unroll
    for (int i = 0; i < HeadGroups<T>::VEC; ++i) sum[i] += to_sum(vectors[c].v[i]) * corners.weight[c];
  }
}

template <typename T>
__device__ inline void write_head(const float (&held)[HeadGroups<T>::VEC], T* row) {
  typename HeadGroups<T>::Vector vector;
#pragma unroll
  for (int i = 0; i < HeadGroups<T>::VEC; ++i) from_sum(held[i], vector.v[i]);
  vector.write(row + HeadGroups<T>::lane() * HeadGroups<T>::VEC);
}

}  // namespace taptrv2
