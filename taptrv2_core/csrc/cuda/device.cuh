// Types, loads and warp sums of the CUDA kernels. No torch header here or in any .cu file: nvcc alone compiles them.
#pragma once

#include <cuda_fp16.h>

#include "launch.h"

namespace taptrv2 {

constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kWarp = 32;
constexpr int kSamplesOfLane = kMaxSamples / kWarp;

struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};

template <typename T>
struct SumOf {
  using type = float;
};
template <>
struct SumOf<double> {
  using type = double;
};
template <typename T>
using Sum = typename SumOf<T>::type;

__device__ inline float to_sum(f16 v) { return __half2float(__ushort_as_half(v.bits)); }
__device__ inline float to_sum(bf16 v) { return __uint_as_float(uint32_t(v.bits) << 16); }
__device__ inline float to_sum(float v) { return v; }
__device__ inline double to_sum(double v) { return v; }

__device__ inline void from_sum(float v, f16& out) { out.bits = __half_as_ushort(__float2half_rn(v)); }
__device__ inline void from_sum(float v, bf16& out) {  // to the nearest, ties to even
  const uint32_t bits = __float_as_uint(v);
  out.bits = v == v ? uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16) : uint16_t(0x7fc0);
}
__device__ inline void from_sum(float v, float& out) { out = v; }
__device__ inline void from_sum(double v, double& out) { out = v; }

template <int BYTES>
struct Word;
template <>
struct Word<16> {
  using type = uint4;
};
template <>
struct Word<8> {
  using type = uint2;
};
template <>
struct Word<4> {
  using type = uint32_t;
};
template <>
struct Word<2> {
  using type = uint16_t;
};

// VEC neighbouring channels, read and written as one word.
template <typename T, int VEC>
struct Pack {
  T v[VEC];
  using W = typename Word<int(sizeof(T) * VEC)>::type;

  __device__ static inline Pack zero() {
    Pack pack;
    const W word = {};
    memcpy(&pack, &word, sizeof pack);
    return pack;
  }
  __device__ static inline Pack read(const T* p) {
    Pack pack;
    const W word = __ldg(reinterpret_cast<const W*>(p));
    memcpy(&pack, &word, sizeof pack);
    return pack;
  }
  __device__ inline void write(T* p) const {
    W word;
    memcpy(&word, this, sizeof word);
    *reinterpret_cast<W*>(p) = word;
  }
};

// How a warp shares the channels of one head: LANES lanes ("a group") hold VEC * CHUNKS channels each; the warp's
// groups take samples in turn. One warp works on one item.
template <int VEC_, int LANES_, int CHUNKS_>
struct Split {
  static constexpr int VEC = VEC_, LANES = LANES_, CHUNKS = CHUNKS_;
  static constexpr int GROUPS = kWarp / LANES;
  static constexpr int HELD = VEC * CHUNKS;
  static constexpr bool WHOLE = CHUNKS == 1;  // every lane holds channels that exist

  __device__ static inline int group() { return threadIdx.x % kWarp / LANES; }
  __device__ static inline int channel(int chunk) { return (chunk * LANES + threadIdx.x % LANES) * VEC; }
  __device__ static inline bool there(int chunk, int channels) { return WHOLE || channel(chunk) < channels; }

  template <typename T, typename A>
  __device__ static inline void read(const T* row, int channels, A* held) {
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; ++chunk) {
      Pack<T, VEC> pack = Pack<T, VEC>::zero();
      if (there(chunk, channels)) pack = Pack<T, VEC>::read(row + channel(chunk));
#pragma unroll
      for (int i = 0; i < VEC; ++i) held[chunk * VEC + i] = to_sum(pack.v[i]);
    }
  }

  // Written by the first group; all groups hold the same.
  template <typename T, typename A>
  __device__ static inline void write(const A* held, int channels, T* row) {
    if (group() != 0) return;
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; ++chunk) {
      Pack<T, VEC> pack;
#pragma unroll
      for (int i = 0; i < VEC; ++i) from_sum(held[chunk * VEC + i], pack.v[i]);
      if (there(chunk, channels)) pack.write(row + channel(chunk));
    }
  }

  // Over the lanes of each group: the channels of a head.
  template <typename A>
  __device__ static inline A sum_of_group(A v) {
#pragma unroll
    for (int step = 1; step < LANES; step *= 2) v += __shfl_xor_sync(kAllLanes, v, step);
    return v;
  }
  // Over the groups: the samples.
  template <typename A>
  __device__ static inline A sum_over_groups(A v) {
#pragma unroll
    for (int step = LANES; step < kWarp; step *= 2) v += __shfl_xor_sync(kAllLanes, v, step);
    return v;
  }
  template <typename A>
  __device__ static inline A max_over_groups(A v) {
#pragma unroll
    for (int step = LANES; step < kWarp; step *= 2) {
      const A other = __shfl_xor_sync(kAllLanes, v, step);
      v = other > v ? other : v;
    }
    return v;
  }
};

using OneLaneAChannel = Split<1, kWarp, kMaxChannels / kWarp>;  // any number of channels

__device__ inline float exponential(float v) { return expf(v); }
__device__ inline double exponential(double v) { return exp(v); }

template <typename A>
__device__ inline A sum_of_warp(A v) {
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) v += __shfl_xor_sync(kAllLanes, v, step);
  return v;
}
template <typename A>
__device__ inline A max_of_warp(A v) {
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const A other = __shfl_xor_sync(kAllLanes, v, step);
    v = other > v ? other : v;
  }
  return v;
}

// Softmax over the first `samples` numbers; lane i holds number i and number i + 32.
template <typename A>
__device__ inline void softmax(A (&v)[kSamplesOfLane], int samples) {
  const int lane = threadIdx.x % kWarp;
  const A lowest = -A(INFINITY);
  A largest = lowest, sum = 0;
#pragma unroll
  for (int i = 0; i < kSamplesOfLane; ++i) {
    if (lane + i * kWarp < samples && v[i] > largest) largest = v[i];
  }
  largest = max_of_warp(largest);
#pragma unroll
  for (int i = 0; i < kSamplesOfLane; ++i) {
    v[i] = lane + i * kWarp < samples ? exponential(v[i] - largest) : A(0);
    sum += v[i];
  }
  sum = sum_of_warp(sum);
#pragma unroll
  for (int i = 0; i < kSamplesOfLane; ++i) v[i] /= sum;
}

// Gradient of a softmax's argument, in place, from its result and the gradient of that.
template <typename A>
__device__ inline void softmax_gradient(const A (&weights)[kSamplesOfLane], A (&gradient)[kSamplesOfLane]) {
  A mean = 0;
#pragma unroll
  for (int i = 0; i < kSamplesOfLane; ++i) mean += weights[i] * gradient[i];
  mean = sum_of_warp(mean);
#pragma unroll
  for (int i = 0; i < kSamplesOfLane; ++i) gradient[i] = weights[i] * (gradient[i] - mean);
}

__device__ inline void atomic_add(float* p, const float (&v)[4]) {
#if __CUDA_ARCH__ >= 900 && CUDART_VERSION >= 12080
  atomicAdd(reinterpret_cast<float4*>(p), make_float4(v[0], v[1], v[2], v[3]));
#else
#pragma unroll
  for (int i = 0; i < 4; ++i) atomicAdd(p + i, v[i]);
#endif
}
template <typename A>
__device__ inline void atomic_add(A* p, const A (&v)[1]) {
  atomicAdd(p, v[0]);
}

// Calls launch(T{}) with the storage type.
template <typename Launch>
inline int for_storage(Storage storage, Launch launch) {
  switch (storage) {
    case Storage::f32:
      return launch(float{});
    case Storage::f64:
      return launch(double{});
    case Storage::f16:
      return launch(f16{});
    default:
      return launch(bf16{});
  }
}

// The same for features that are not double.
template <typename Launch>
inline int for_features(Storage storage, Launch launch) {
  switch (storage) {
    case Storage::f32:
      return launch(float{});
    case Storage::f16:
      return launch(f16{});
    default:
      return launch(bf16{});
  }
}

// Blocks for `items` warps; 0 if they do not fit one launch.
inline unsigned blocks_for(int64_t items, int warps) {
  const int64_t blocks = (items + warps - 1) / warps;
  return blocks <= 0x7fffffff ? unsigned(blocks) : 0u;
}

}  // namespace taptrv2
