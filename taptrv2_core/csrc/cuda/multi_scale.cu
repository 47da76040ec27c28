// output = sum over samples of weight * bilinear sample of value: forward and backward.
#include "heads.cuh"

namespace taptrv2 {
namespace {

constexpr int kForwardWarps = 8, kBackwardWarps = 4;

// The weights of this lane's samples; a softmax is taken where logits were given.
template <typename T>
__device__ inline void read_weights(const MultiScale& p, const Item& item, Sum<T> (&weights)[kSamplesOfLane]) {
  const int samples = p.levels * p.points;
#pragma unroll
  for (int i = 0; i < kSamplesOfLane; ++i) {
    const int k = threadIdx.x % kWarp + i * kWarp;
    weights[i] = k < samples ? read_number<T>(p.weights, p.weights_in_storage, item.number * samples + k) : Sum<T>(0);
  }
  if (p.reference) softmax(weights, samples);
}

// As `forward`, for heads of 32 channels with few samples.
template <typename T>
__global__ void __launch_bounds__(kHeadWarps* kWarp) forward_heads(const __grid_constant__ MultiScale p) {
  using G = HeadGroups<T>;
  __shared__ CornersOfItem all_corners[G::OF_BLOCK];
  CornersOfItem& corners = all_corners[G::of_block()];
  const HeadItem item(p, blockIdx.x * G::OF_BLOCK + G::of_block());
  const int samples = p.levels * p.points;
  float weights[G::OWN], largest = -INFINITY, total = 0;
#pragma unroll
  for (int i = 0; i < G::OWN; ++i) {
    const int k = G::lane() + i * G::LANES;
    const int64_t at = int64_t(item.number) * samples + k;
    weights[i] = k < samples ? read_number<T>(p.weights, p.weights_in_storage, at) : -INFINITY;
    largest = weights[i] > largest ? weights[i] : largest;
  }
  if (p.reference) {
    largest = G::largest(largest);
#pragma unroll
    for (int i = 0; i < G::OWN; ++i) {
      weights[i] = G::lane() + i * G::LANES < samples ? expf(weights[i] - largest) : 0.f;
      total += weights[i];
    }
    total = G::sum(total);
#pragma unroll
    for (int i = 0; i < G::OWN; ++i) weights[i] /= total;
  }
#pragma unroll
  for (int i = 0; i < G::OWN; ++i) {
    const int k = G::lane() + i * G::LANES;
    place_sample<T>(p, item, k, weights[i], corners[k]);
  }
  __syncwarp();

  const int64_t first = item.batch * p.batch_stride + item.head * kHeadChannels + G::lane() * G::VEC;
  const T* base = static_cast<const T*>(p.value) + first;
  float sum[G::VEC] = {};
  for (int k = 0; k < samples; k += 2) {  // two at a time: the loads of both are under way together
    typename G::Vector one[4], other[4];
    read_vectors<T>(base, p.token_stride, corners[k], one);
    read_vectors<T>(base, p.token_stride, corners[k + 1], other);
    add_corners<T>(one, corners[k], sum);
    add_corners<T>(other, corners[k + 1], sum);
  }
  if (item.there) write_head<T>(sum, static_cast<T*>(p.output) + int64_t(item.number) * kHeadChannels);
}

template <typename T, typename S>
__global__ void __launch_bounds__(kForwardWarps* kWarp) forward(const __grid_constant__ MultiScale p) {
  using A = Sum<T>;
  __shared__ Samples<A> all_samples[kForwardWarps];
  __shared__ A all_weights[kForwardWarps][kMaxSamples];
  const int warp = threadIdx.x / kWarp;
  const Item item(p, int64_t(blockIdx.x) * kForwardWarps + warp);
  if (item.batch >= p.batches) return;
  Samples<A>& s = all_samples[warp];
  const int samples = p.levels * p.points;

  place<T>(p, item, s);
  A own[kSamplesOfLane];
  read_weights<T>(p, item, own);
#pragma unroll
  for (int i = 0; i < kSamplesOfLane; ++i) all_weights[warp][threadIdx.x % kWarp + i * kWarp] = own[i];
  __syncwarp();

  const T* base = static_cast<const T*>(p.value) + item.batch * p.batch_stride + item.head * p.channels;
  A sum[S::HELD] = {};
  for (int k = S::group(); k < samples; k += S::GROUPS) {
#pragma unroll
    for (int chunk = 0; chunk < S::CHUNKS; ++chunk) {
      Pack<T, S::VEC> corners[4];
      read_corners<T, S>(base, p.token_stride, s, k, s.inside[k], chunk, p.channels, corners);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const A weight = s.corner[c][k] * all_weights[warp][k];
#pragma unroll
        for (int i = 0; i < S::VEC; ++i) sum[chunk * S::VEC + i] += to_sum(corners[c].v[i]) * weight;
      }
    }
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < S::HELD; ++i) sum[i] = S::sum_over_groups(sum[i]);
  S::write(sum, p.channels, static_cast<T*>(p.output) + item.number * p.channels);
}

template <typename T, typename S>
__global__ void __launch_bounds__(kBackwardWarps* kWarp)
    backward(const __grid_constant__ MultiScale p, int64_t tokens) {
  using A = Sum<T>;
  __shared__ Samples<A> all_samples[kBackwardWarps];
  __shared__ A all_weights[kBackwardWarps][kMaxSamples];
  __shared__ A all_products[kBackwardWarps][kMaxSamples][4];
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const Item item(p, int64_t(blockIdx.x) * kBackwardWarps + warp);
  if (item.batch >= p.batches) return;
  Samples<A>& s = all_samples[warp];
  const int samples = p.levels * p.points;
  const int64_t width = int64_t(p.heads) * p.channels;

  place<T>(p, item, s);
  A own[kSamplesOfLane];
  read_weights<T>(p, item, own);
#pragma unroll
  for (int i = 0; i < kSamplesOfLane; ++i) all_weights[warp][lane + i * kWarp] = own[i];
  __syncwarp();

  const T* base = static_cast<const T*>(p.value) + item.batch * p.batch_stride + item.head * p.channels;
  A* grad_base = static_cast<A*>(p.grad_value) + item.batch * tokens * width + item.head * p.channels;
  A grad[S::HELD];
  S::read(static_cast<const T*>(p.grad_output) + item.number * p.channels, p.channels, grad);
  for (int first = 0; first < samples; first += S::GROUPS) {  // the same number of rounds for every lane
    const int k = first + S::group();
    const int at = k < samples ? k : 0;
    const int inside = k < samples ? s.inside[at] : 0;
    A products[4] = {};
#pragma unroll
    for (int chunk = 0; chunk < S::CHUNKS; ++chunk) {
      Pack<T, S::VEC> corners[4];
      read_corners<T, S>(base, p.token_stride, s, at, inside, chunk, p.channels, corners);
      scatter<S>(grad_base, width, s, at, inside, chunk, p.channels, all_weights[warp][at], grad);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
#pragma unroll
        for (int i = 0; i < S::VEC; ++i) products[c] += to_sum(corners[c].v[i]) * grad[chunk * S::VEC + i];
      }
    }
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      products[c] = S::sum_of_group(products[c]);
      if (k < samples && lane % S::LANES == 0) all_products[warp][k][c] = products[c];
    }
  }
  __syncwarp();

  A grad_weights[kSamplesOfLane] = {};
  A* grad_offsets = static_cast<A*>(p.grad_offsets) + item.number * samples * 2;
#pragma unroll
  for (int i = 0; i < kSamplesOfLane; ++i) {
    const int k = lane + i * kWarp;
    if (k < samples) {
      const A(&products)[4] = all_products[warp][k];
      const int level = k / p.points;
#pragma unroll
      for (int c = 0; c < 4; ++c) grad_weights[i] += s.corner[c][k] * products[c];
      grad_offsets[2 * k] = own[i] * across(s, k, products) * (p.reference ? A(1) : A(p.width[level]));
      grad_offsets[2 * k + 1] = own[i] * down(s, k, products) * (p.reference ? A(1) : A(p.height[level]));
    }
  }
  if (p.reference) softmax_gradient(own, grad_weights);
#pragma unroll
  for (int i = 0; i < kSamplesOfLane; ++i) {
    const int k = lane + i * kWarp;
    if (k < samples) static_cast<A*>(p.grad_weights)[item.number * samples + k] = grad_weights[i];
  }
}

template <typename T, typename S>
int run_forward(const MultiScale& p, cudaStream_t stream) {
  const unsigned blocks = blocks_for(p.batches * p.queries * p.heads, kForwardWarps);
  if (!blocks) return int(cudaErrorInvalidConfiguration);
  forward<T, S><<<blocks, kForwardWarps * kWarp, 0, stream>>>(p);
  return int(cudaGetLastError());
}

template <typename T>
int run_forward_heads(const MultiScale& p, cudaStream_t stream) {
  const unsigned blocks = blocks_for(p.batches * p.queries * p.heads, HeadGroups<T>::OF_BLOCK);
  forward_heads<T><<<blocks, kHeadWarps * kWarp, 0, stream>>>(p);
  return int(cudaGetLastError());
}

template <typename T, typename S>
int run_backward(const MultiScale& p, cudaStream_t stream) {
  const unsigned blocks = blocks_for(p.batches * p.queries * p.heads, kBackwardWarps);
  if (!blocks) return int(cudaErrorInvalidConfiguration);
  const int last = p.levels - 1;
  const int64_t tokens = p.start[last] + int64_t(p.height[last]) * p.width[last];
  backward<T, S><<<blocks, kBackwardWarps * kWarp, 0, stream>>>(p, tokens);
  return int(cudaGetLastError());
}

}  // namespace

int launch_multi_scale_forward(const MultiScale& p, void* stream) {
  if (p.batches * p.queries == 0) return 0;
  return for_storage(p.storage, [&](auto storage) {
    using T = decltype(storage);
    constexpr int kVector = sizeof(T) == 8 ? 1 : 16 / int(sizeof(T));
    if constexpr (sizeof(T) < 8) {
      if (few_samples(p)) return run_forward_heads<T>(p, cudaStream_t(stream));
      if (p.channels == 32) return run_forward<T, Split<kVector, 32 / kVector, 1>>(p, cudaStream_t(stream));
    }
    return run_forward<T, OneLaneAChannel>(p, cudaStream_t(stream));
  });
}

int launch_multi_scale_backward(const MultiScale& p, void* stream) {
  if (p.batches * p.queries == 0) return 0;
  return for_storage(p.storage, [&](auto storage) {
    using T = decltype(storage);
    if constexpr (sizeof(T) < 8) {
      if (p.channels == 32) return run_backward<T, Split<4, 8, 1>>(p, cudaStream_t(stream));
    }
    return run_backward<T, OneLaneAChannel>(p, cudaStream_t(stream));
  });
}

const char* describe_cuda_error(int error) { return cudaGetErrorString(cudaError_t(error)); }

}  // namespace taptrv2
