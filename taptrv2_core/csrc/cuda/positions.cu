// What the decoder does with positions between its products: codes, the attention-based update, the refinement.
#include "device.cuh"
#include "launch_steps.h"

namespace taptrv2 {
namespace {

constexpr int kWarps = 4;  // a warp a (frame, query) pair
constexpr float kLogitEpsilon = 1e-3f;

__device__ inline float sigmoid(float v) { return 1.f / (1.f + expf(-v)); }
__device__ inline float within(float v, float low) { return v != v ? v : fmaxf(v, low); }
__device__ inline float inverse_sigmoid(float v) {
  v = v != v ? v : fminf(fmaxf(v, 0.f), 1.f);
  return logf(within(v, kLogitEpsilon) / within(1.f - v, kLogitEpsilon));
}

__device__ inline int64_t pair_of_warp() { return int64_t(blockIdx.x) * kWarps + threadIdx.x / kWarp; }

// Code of COUNT coordinates, given in the order in which they are written.
template <typename T, int COUNT>
__device__ inline void write_code(const Code& code, const float (&value)[COUNT], T* output) {
  for (int channel = threadIdx.x % kWarp; channel < code.half; channel += kWarp) {
    const float frequency = code.frequency[channel], phase = code.phase[channel];
#pragma unroll
    for (int i = 0; i < COUNT; ++i) from_sum(sinf(phase + value[i] * frequency), output[i * code.half + channel]);
  }
}

template <typename T>
__global__ void __launch_bounds__(kWarps* kWarp) box_code(const __grid_constant__ BoxCode p) {
  const int64_t pair = pair_of_warp();
  if (pair >= p.pairs) return;
  float box[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) box[i] = sigmoid(p.reference[pair * 4 + i]);
  const int lane = threadIdx.x % kWarp;
  if (lane == 0) {
#pragma unroll
    for (int i = 0; i < 4; ++i) p.box[pair * 4 + i] = box[i];
    p.position[pair * 2] = box[0];
    p.position[pair * 2 + 1] = box[1];
  }
  const float ordered[4] = {box[1], box[0], box[2], box[3]};
  write_code(p.code, ordered, static_cast<T*>(p.embedding) + pair * 4 * p.code.half);
}

template <typename T>
__global__ void __launch_bounds__(kWarps* kWarp) move(const __grid_constant__ Move p) {
  const int64_t pair = pair_of_warp();
  if (pair >= p.pairs) return;
  const int lane = threadIdx.x % kWarp;
  const T* logits = static_cast<const T*>(p.logits) + pair * p.samples;
  const T* offsets = static_cast<const T*>(p.offsets) + pair * p.samples * 2;
  float largest = -INFINITY;
  for (int k = lane; k < p.samples; k += kWarp) largest = fmaxf(largest, to_sum(logits[k]));
  largest = max_of_warp(largest);
  float total = 0, x = 0, y = 0;
  for (int k = lane; k < p.samples; k += kWarp) {
    const float weight = expf(to_sum(logits[k]) - largest);
    total += weight;
    x += weight * (to_sum(offsets[2 * k]) / p.cells[2 * k]);
    y += weight * (to_sum(offsets[2 * k + 1]) / p.cells[2 * k + 1]);
  }
  total = sum_of_warp(total);
  x = sum_of_warp(x) / total;
  y = sum_of_warp(y) / total;
  const float* box = p.box + pair * 4;
  const bool updated = p.updated[pair];
  const float moved_x = updated ? sigmoid(inverse_sigmoid(box[0] + x)) : box[0];
  const float moved_y = updated ? sigmoid(inverse_sigmoid(box[1] + y)) : box[1];
  if (lane == 0) {
    p.moved[pair * 2] = moved_x;
    p.moved[pair * 2 + 1] = moved_y;
  }
  const float place[4] = {moved_y, moved_x, box[2], box[3]};
  write_code(p.code, place, static_cast<T*>(p.embedding) + pair * 4 * p.code.half);
  const float way[2] = {moved_y - box[1], moved_x - box[0]};
  write_code(p.code, way, static_cast<T*>(p.travelled) + pair * 2 * p.code.half);
}

template <typename T>
__global__ void __launch_bounds__(kWarps* kWarp) refine_boxes(const __grid_constant__ RefineBoxes p) {
  const int64_t number = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;  // (pair, coordinate)
  if (number >= p.pairs * 4) return;
  const int64_t pair = number / 4;
  const int i = int(number % 4);
  const float start = i < 2 ? p.moved[pair * 2 + i] : p.box[number];
  const float refined = inverse_sigmoid(start) + to_sum(static_cast<const T*>(p.delta)[number]);
  p.output[number] = p.updated[pair] ? refined : p.reference[number];
}

}  // namespace

int launch_box_code(const BoxCode& p, void* stream) {
  if (p.pairs == 0) return 0;
  return for_features(p.storage, [&](auto storage) {
    box_code<decltype(storage)><<<blocks_for(p.pairs, kWarps), kWarps * kWarp, 0, cudaStream_t(stream)>>>(p);
    return int(cudaGetLastError());
  });
}

int launch_move(const Move& p, void* stream) {
  if (p.pairs == 0) return 0;
  return for_features(p.storage, [&](auto storage) {
    move<decltype(storage)><<<blocks_for(p.pairs, kWarps), kWarps * kWarp, 0, cudaStream_t(stream)>>>(p);
    return int(cudaGetLastError());
  });
}

int launch_refine_boxes(const RefineBoxes& p, void* stream) {
  if (p.pairs == 0) return 0;
  return for_features(p.storage, [&](auto storage) {
    const unsigned blocks = blocks_for(p.pairs * 4, kWarps * kWarp);
    refine_boxes<decltype(storage)><<<blocks, kWarps * kWarp, 0, cudaStream_t(stream)>>>(p);
    return int(cudaGetLastError());
  });
}

}  // namespace taptrv2
