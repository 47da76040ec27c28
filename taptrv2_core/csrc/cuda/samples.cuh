// Where the samples of one item lie and what their corners weigh: worked out once a warp, one lane a sample, and kept
// in shared memory for all lanes.
#pragma once

#include "device.cuh"

namespace taptrv2 {

// Corners in the order (x0, y0), (x1, y0), (x0, y1), (x1, y1).
template <typename A>
struct Samples {
  A corner[4][kMaxSamples];          // bilinear weight
  A x[kMaxSamples], y[kMaxSamples];  // fraction between the corners
  int token[kMaxSamples];            // of corner 0
  int columns[kMaxSamples];          // of the level
  int inside[kMaxSamples];           // bit c: corner c is a cell of the level
};

// One warp's item: (batch, query, head) from its running number.
struct Item {
  int64_t number, batch, query;
  int head;

  __device__ Item(const Problem& p, int64_t n) : number(n) {
    const int64_t row = n / p.heads;
    head = int(n - row * p.heads);
    batch = row / p.queries;
    query = row - batch * p.queries;
  }
};

template <typename T>
__device__ inline Sum<T> read_number(const void* base, bool in_storage, int64_t index) {
  return in_storage ? to_sum(static_cast<const T*>(base)[index]) : static_cast<const Sum<T>*>(base)[index];
}

template <typename T>
__device__ inline void place(const Problem& p, const Item& item, Samples<Sum<T>>& s) {
  using A = Sum<T>;
  const int samples = p.levels * p.points;
  A reference_x = 0, reference_y = 0;
  if (p.reference) {
    const A* reference = static_cast<const A*>(p.reference) + item.batch * p.reference_stride + item.query * 2;
    reference_x = reference[0];
    reference_y = reference[1];
  }
  for (int k = threadIdx.x % kWarp; k < samples; k += kWarp) {
    const int level = k / p.points;
    const int columns = p.width[level], rows = p.height[level];
    const A scale_x = p.reference ? A(1) : A(columns), scale_y = p.reference ? A(1) : A(rows);
    const int64_t at = (item.number * samples + k) * 2;
    const A x = reference_x * columns + read_number<T>(p.offsets, p.offsets_in_storage, at) * scale_x - A(0.5);
    const A y = reference_y * rows + read_number<T>(p.offsets, p.offsets_in_storage, at + 1) * scale_y - A(0.5);
    const bool near = x > A(-1) && x < A(columns) && y > A(-1) && y < A(rows);  // false for NaN too
    const A safe_x = near ? x : A(0), safe_y = near ? y : A(0);
    int x0 = int(safe_x), y0 = int(safe_y);
    x0 -= A(x0) > safe_x ? 1 : 0;
    y0 -= A(y0) > safe_y ? 1 : 0;
    const A fx = safe_x - A(x0), fy = safe_y - A(y0);
    s.x[k] = fx;
    s.y[k] = fy;
    s.corner[0][k] = (1 - fx) * (1 - fy);
    s.corner[1][k] = fx * (1 - fy);
    s.corner[2][k] = (1 - fx) * fy;
    s.corner[3][k] = fx * fy;
    s.token[k] = p.start[level] + y0 * columns + x0;
    s.columns[k] = columns;
    const int left = x0 >= 0 ? 5 : 0, right = x0 + 1 < columns ? 10 : 0;
    const int top = y0 >= 0 ? 3 : 0, bottom = y0 + 1 < rows ? 12 : 0;
    s.inside[k] = near ? (left | right) & (top | bottom) : 0;
  }
}

// Token of corner c, to be read only where it is inside.
template <typename A>
__device__ inline int64_t corner_token(const Samples<A>& s, int k, int c) {
  return int64_t(s.token[k]) + (c & 1) + (c >> 1) * s.columns[k];
}

// Reads one chunk of the four corners of sample k; zero where outside. All loads are issued before the first is used.
template <typename T, typename S>
__device__ inline void read_corners(const T* base, int64_t token_stride, const Samples<Sum<T>>& s, int k, int inside,
                                    int chunk, int channels, Pack<T, S::VEC> (&packs)[4]) {
  if (!S::there(chunk, channels)) inside = 0;
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    packs[c] = Pack<T, S::VEC>::zero();
    if (inside >> c & 1) {
      packs[c] = Pack<T, S::VEC>::read(base + corner_token(s, k, c) * token_stride + S::channel(chunk));
    }
  }
}

// From <row, corner c> of a sample: the derivatives of <row, sample> by x and y in cells.
template <typename A>
__device__ inline A across(const Samples<A>& s, int k, const A (&products)[4]) {
  return (1 - s.y[k]) * (products[1] - products[0]) + s.y[k] * (products[3] - products[2]);
}
template <typename A>
__device__ inline A down(const Samples<A>& s, int k, const A (&products)[4]) {
  return (1 - s.x[k]) * (products[2] - products[0]) + s.x[k] * (products[3] - products[1]);
}

// row * weight * bilinear weight into the four corners of sample k, one chunk.
template <typename S, typename A>
__device__ inline void scatter(A* base, int64_t token_stride, const Samples<A>& s, int k, int inside, int chunk,
                               int channels, A weight, const A* held) {
  if (!S::there(chunk, channels)) inside = 0;
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    if (inside >> c & 1) {
      const A factor = weight * s.corner[c][k];
      A scaled[S::VEC];
#pragma unroll
      for (int i = 0; i < S::VEC; ++i) scaled[i] = held[chunk * S::VEC + i] * factor;
      atomic_add(base + corner_token(s, k, c) * token_stride + S::channel(chunk), scaled);
    }
  }
}

}  // namespace taptrv2
