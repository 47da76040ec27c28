// Attention between the frames of a query: a few frames, many queries, so that one thread does one row of it.
#include "device.cuh"
#include "launch_steps.h"

namespace taptrv2 {
namespace {

constexpr int kThreads = 128, kHead = 32;

template <typename T>
__device__ inline void read_head(const T* from, float (&held)[kHead]) {
  constexpr int VEC = 16 / int(sizeof(T));
#pragma unroll
  for (int part = 0; part < kHead; part += VEC) {
    const Pack<T, VEC> pack = Pack<T, VEC>::read(from + part);
#pragma unroll
    for (int i = 0; i < VEC; ++i) held[part + i] = to_sum(pack.v[i]);
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) frame_attention(const __grid_constant__ FrameAttention p) {
  constexpr int VEC = 16 / int(sizeof(T));
  const int64_t number = int64_t(blockIdx.x) * kThreads + threadIdx.x;  // (query, head, frame)
  if (number >= p.queries * p.heads * p.frames) return;
  const int frame = int(number % p.frames), head = int(number / p.frames % p.heads);
  const int64_t query = number / p.frames / p.heads;
  const int width = p.heads * kHead;
  const int64_t own = frame * p.queries + query;
  const T* query_key = static_cast<const T*>(p.query_key) + head * kHead;
  const T* values = static_cast<const T*>(p.value) + head * kHead;
  float asked[kHead], sum[kHead] = {};
  read_head(query_key + own * 2 * width, asked);
  float largest = -INFINITY, total = 0;
  for (int other = 0; other < p.frames; ++other) {
    const int64_t row = other * p.queries + query;
    if (p.tracked && p.tracked[row] != p.tracked[own]) continue;
    float held[kHead];
    read_head(query_key + row * 2 * width + width, held);
    float logit = 0;
#pragma unroll
    for (int i = 0; i < kHead; ++i) logit += asked[i] * held[i];
    logit *= p.scale;
    const float before = largest;
    largest = logit > largest ? logit : largest;
    const float kept = expf(before - largest), weight = expf(logit - largest);
    total = total * kept + weight;
    read_head(values + row * width, held);
#pragma unroll
    for (int i = 0; i < kHead; ++i) sum[i] = sum[i] * kept + weight * held[i];
  }
  T* output = static_cast<T*>(p.output) + own * width + head * kHead;
#pragma unroll
  for (int part = 0; part < kHead; part += VEC) {
    Pack<T, VEC> pack;
#pragma unroll
    for (int i = 0; i < VEC; ++i) from_sum(sum[part + i] / total, pack.v[i]);
    pack.write(output + part);
  }
}

}  // namespace

int launch_frame_attention(const FrameAttention& p, void* stream) {
  if (p.queries == 0) return 0;
  return for_features(p.storage, [&](auto storage) {
    const unsigned blocks = blocks_for(p.queries * p.heads * p.frames, kThreads);
    if (!blocks) return int(cudaErrorInvalidConfiguration);
    frame_attention<decltype(storage)><<<blocks, kThreads, 0, cudaStream_t(stream)>>>(p);
    return int(cudaGetLastError());
  });
}

}  // namespace taptrv2
