// logits = <query, sampled key> / sqrt(D), output = softmax(logits) * sampled values: forward and backward.
// A head's key and value lie side by side, so each corner is one stretch of memory that is read once.
#include "heads.cuh"

namespace taptrv2 {
namespace {

constexpr int kForwardWarps = 8, kBackwardWarps = 4;

// Slot of the item's frame; -1 if the ring does not have it.
__device__ inline int64_t slot_of(const KeyAware& p, const Item& item) {
  const int64_t slot = p.slots[item.batch];
  return slot >= 0 && slot < p.ring ? slot : -1;
}

// A frame without a slot: NaN for its logits and output.
template <typename T, typename S>
__device__ inline void refuse(const KeyAware& p, const Item& item, int samples) {
  using A = Sum<T>;
  A* logits = static_cast<A*>(p.logits) + item.number * samples;
  for (int k = threadIdx.x % kWarp; k < samples; k += kWarp) logits[k] = A(NAN);
  A held[S::HELD];
#pragma unroll
  for (int i = 0; i < S::HELD; ++i) held[i] = A(NAN);
  S::write(held, p.channels, static_cast<T*>(p.output) + item.number * p.channels);
}

// The sum of a group's values under a softmax that grows sample by sample: weights are relative to the largest so far.
template <typename A, int HELD>
struct RunningSoftmax {
  A largest = -A(INFINITY), total = 0;
  A sum[HELD] = {};

  __device__ inline void add(A logit, const A (&value)[HELD]) {
    const A before = largest;
    largest = logit > largest ? logit : largest;
    const A kept = exponential(before - largest), weight = exponential(logit - largest);
    total = total * kept + weight;
#pragma unroll
    for (int i = 0; i < HELD; ++i) sum[i] = sum[i] * kept + weight * value[i];
  }

  template <typename S>
  __device__ inline void merge_groups() {
    const A highest = S::max_over_groups(largest);
    const A kept = total > 0 ? exponential(largest - highest) : A(0);  // a group may have had no sample
    total = S::sum_over_groups(total * kept);
#pragma unroll
    for (int i = 0; i < HELD; ++i) sum[i] = S::sum_over_groups(sum[i] * kept) / total;
  }
};

// Sampled key . query (this lane's share) and this lane's share of the sampled value.
template <typename T, typename S>
__device__ inline Sum<T> sample_pair(const T* base, const KeyAware& p, const Samples<Sum<T>>& s, int k, int inside,
                                     const Sum<T> (&query)[S::HELD], Sum<T> (&value)[S::HELD]) {
  using A = Sum<T>;
  A product = 0;
#pragma unroll
  for (int chunk = 0; chunk < S::CHUNKS; ++chunk) {
    Pack<T, S::VEC> keys[4], values[4];
    read_corners<T, S>(base, p.token_stride, s, k, inside, chunk, p.channels, keys);
    read_corners<T, S>(base + p.channels, p.token_stride, s, k, inside, chunk, p.channels, values);
#pragma unroll
    for (int i = 0; i < S::VEC; ++i) {
      A key = 0, sampled = 0;
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const A corner = s.corner[c][k];
        key += to_sum(keys[c].v[i]) * corner;
        sampled += to_sum(values[c].v[i]) * corner;
      }
      product += key * query[chunk * S::VEC + i];
      value[chunk * S::VEC + i] = sampled;
    }
  }
  return product;
}

template <typename T, typename S>
__global__ void __launch_bounds__(kForwardWarps* kWarp) forward(const __grid_constant__ KeyAware p) {
  using A = Sum<T>;
  __shared__ Samples<A> all_samples[kForwardWarps];
  const int warp = threadIdx.x / kWarp;
  const Item item(p, int64_t(blockIdx.x) * kForwardWarps + warp);
  if (item.batch >= p.batches) return;
  Samples<A>& s = all_samples[warp];
  const int samples = p.levels * p.points;
  const int64_t slot = slot_of(p, item);
  if (slot < 0) return refuse<T, S>(p, item, samples);

  place<T>(p, item, s);
  __syncwarp();
  const T* base = static_cast<const T*>(p.key_value) + slot * p.batch_stride + 2 * item.head * p.channels;
  A query[S::HELD];
  S::read(static_cast<const T*>(p.query) + item.number * p.channels, p.channels, query);
  const A scale = A(p.scale);
  RunningSoftmax<A, S::HELD> running;
  for (int first = 0; first < samples; first += S::GROUPS) {  // the same number of rounds for every lane
    const int k = first + S::group();
    const int at = k < samples ? k : 0;
    A value[S::HELD];
    const A product = sample_pair<T, S>(base, p, s, at, k < samples ? s.inside[at] : 0, query, value);
    const A logit = S::sum_of_group(product) * scale;
    if (k >= samples) continue;
    running.add(logit, value);
    if (threadIdx.x % S::LANES == 0) static_cast<A*>(p.logits)[item.number * samples + k] = logit;
  }
  __syncwarp();
  running.template merge_groups<S>();
  S::write(running.sum, p.channels, static_cast<T*>(p.output) + item.number * p.channels);
}

// As `forward`, for heads of 32 channels with few samples.
template <typename T>
__global__ void __launch_bounds__(kHeadWarps* kWarp) forward_heads(const __grid_constant__ KeyAware p) {
  using G = HeadGroups<T>;
  __shared__ CornersOfItem all_corners[G::OF_BLOCK];
  CornersOfItem& corners = all_corners[G::of_block()];
  const HeadItem item(p, blockIdx.x * G::OF_BLOCK + G::of_block());
  const int samples = p.levels * p.points;
  const int64_t given = p.slots[item.batch];
  const bool held = given >= 0 && given < p.ring;  // else nothing is read, and the scale makes NaN of it
#pragma unroll
  for (int i = 0; i < G::OWN; ++i) {
    const int k = G::lane() + i * G::LANES;
    place_sample<T>(p, item, held ? k : samples, 1.f, corners[k]);
  }
  __syncwarp();

  const int64_t first = (held ? given : 0) * p.batch_stride + 2 * item.head * kHeadChannels + G::lane() * G::VEC;
  const T* base = static_cast<const T*>(p.key_value) + first;
  const typename G::Vector query =
      G::Vector::read(static_cast<const T*>(p.query) + int64_t(item.number) * kHeadChannels + G::lane() * G::VEC);
  float* logits = static_cast<float*>(p.logits) + int64_t(item.number) * samples;
  const float scale = held ? float(p.scale) : NAN;
  float largest = -INFINITY, total = 0, sum[G::VEC] = {};
  for (int k = 0; k < samples; ++k) {
    typename G::Vector keys[4], values[4];
    read_vectors<T>(base, p.token_stride, corners[k], keys);
    read_vectors<T>(base + kHeadChannels, p.token_stride, corners[k], values);
    float key[G::VEC] = {}, value[G::VEC] = {};
    add_corners<T>(keys, corners[k], key);
    add_corners<T>(values, corners[k], value);
    float product = 0;
#pragma unroll
    for (int i = 0; i < G::VEC; ++i) product += key[i] * to_sum(query.v[i]);
    const float logit = G::sum(product) * scale, before = largest;
    largest = logit > largest ? logit : largest;
    const float kept = expf(before - largest), weight = expf(logit - largest);
    total = total * kept + weight;
#pragma unroll
    for (int i = 0; i < G::VEC; ++i) sum[i] = sum[i] * kept + weight * value[i];
    if (item.there && k % G::LANES == G::lane()) logits[k] = logit;
  }
#pragma unroll
  for (int i = 0; i < G::VEC; ++i) sum[i] /= total;
  if (item.there) write_head<T>(sum, static_cast<T*>(p.output) + int64_t(item.number) * kHeadChannels);
}

// <query, key corner> and <upstream gradient, value corner> of every sample, into shared memory.
template <typename T, typename S>
__device__ inline void match_corners(const T* base, const KeyAware& p, const Samples<Sum<T>>& s,
                                     const Sum<T> (&query)[S::HELD], const Sum<T> (&grad)[S::HELD],
                                     Sum<T> (*of_keys)[4], Sum<T> (*of_values)[4]) {
  using A = Sum<T>;
  const int samples = p.levels * p.points;
  for (int first = 0; first < samples; first += S::GROUPS) {
    const int k = first + S::group();
    const int at = k < samples ? k : 0;
    const int inside = k < samples ? s.inside[at] : 0;
    A key_products[4] = {}, value_products[4] = {};
#pragma unroll
    for (int chunk = 0; chunk < S::CHUNKS; ++chunk) {
      Pack<T, S::VEC> keys[4], values[4];
      read_corners<T, S>(base, p.token_stride, s, at, inside, chunk, p.channels, keys);
      read_corners<T, S>(base + p.channels, p.token_stride, s, at, inside, chunk, p.channels, values);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
#pragma unroll
        for (int i = 0; i < S::VEC; ++i) {
          key_products[c] += to_sum(keys[c].v[i]) * query[chunk * S::VEC + i];
          value_products[c] += to_sum(values[c].v[i]) * grad[chunk * S::VEC + i];
        }
      }
    }
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      key_products[c] = S::sum_of_group(key_products[c]);
      value_products[c] = S::sum_of_group(value_products[c]);
      if (k < samples && threadIdx.x % S::LANES == 0) {
        of_keys[k][c] = key_products[c];
        of_values[k][c] = value_products[c];
      }
    }
  }
}

// Gradients of logits (scaled, for the products) and positions, one lane a sample. Weights and logit gradients are left
// in shared memory.
template <typename T>
__device__ inline void sample_gradients(const KeyAware& p, const Item& item, const Samples<Sum<T>>& s,
                                        Sum<T> (*of_keys)[4], Sum<T> (*of_values)[4], Sum<T>* shared_weights,
                                        Sum<T>* shared_logits) {
  using A = Sum<T>;
  const int lane = threadIdx.x % kWarp, samples = p.levels * p.points;
  const A* logits = static_cast<const A*>(p.logits) + item.number * samples;
  const A* given = static_cast<const A*>(p.grad_logits);
  A weights[kSamplesOfLane] = {}, gradient[kSamplesOfLane] = {};
#pragma unroll
  for (int i = 0; i < kSamplesOfLane; ++i) {
    const int k = lane + i * kWarp;
    if (k >= samples) continue;
    weights[i] = logits[k];
#pragma unroll
    for (int c = 0; c < 4; ++c) gradient[i] += s.corner[c][k] * of_values[k][c];
  }
  softmax(weights, samples);
  softmax_gradient(weights, gradient);
  A* grad_offsets = static_cast<A*>(p.grad_offsets) + item.number * samples * 2;
#pragma unroll
  for (int i = 0; i < kSamplesOfLane; ++i) {
    const int k = lane + i * kWarp;
    if (k >= samples) continue;
    if (given) gradient[i] += given[item.number * samples + k];
    gradient[i] *= A(p.scale);
    shared_weights[k] = weights[i];
    shared_logits[k] = gradient[i];
    const int level = k / p.points;
    const A x = weights[i] * across(s, k, of_values[k]) + gradient[i] * across(s, k, of_keys[k]);
    const A y = weights[i] * down(s, k, of_values[k]) + gradient[i] * down(s, k, of_keys[k]);
    grad_offsets[2 * k] = x * (p.reference ? A(1) : A(p.width[level]));
    grad_offsets[2 * k + 1] = y * (p.reference ? A(1) : A(p.height[level]));
  }
}

// A frame without a slot: no gradient.
template <typename S, typename A>
__device__ inline void no_gradients(const KeyAware& p, const Item& item, int samples) {
  A* grad_offsets = static_cast<A*>(p.grad_offsets) + item.number * samples * 2;
  for (int k = threadIdx.x % kWarp; k < 2 * samples; k += kWarp) grad_offsets[k] = 0;
  const A held[S::HELD] = {};
  S::write(held, p.channels, static_cast<A*>(p.grad_query) + item.number * p.channels);
}

template <typename T, typename S>
__global__ void __launch_bounds__(kBackwardWarps* kWarp) backward(const __grid_constant__ KeyAware p, int64_t tokens) {
  using A = Sum<T>;
  __shared__ Samples<A> all_samples[kBackwardWarps];
  __shared__ A all_products[kBackwardWarps][2][kMaxSamples][4];
  __shared__ A all_weights[kBackwardWarps][2][kMaxSamples];
  const int warp = threadIdx.x / kWarp;
  const Item item(p, int64_t(blockIdx.x) * kBackwardWarps + warp);
  if (item.batch >= p.batches) return;
  Samples<A>& s = all_samples[warp];
  const int samples = p.levels * p.points;
  const int64_t slot = slot_of(p, item);
  if (slot < 0) return no_gradients<S, A>(p, item, samples);

  place<T>(p, item, s);
  __syncwarp();
  const T* base = static_cast<const T*>(p.key_value) + slot * p.batch_stride + 2 * item.head * p.channels;
  A query[S::HELD], grad[S::HELD], grad_query[S::HELD] = {};
  S::read(static_cast<const T*>(p.query) + item.number * p.channels, p.channels, query);
  S::read(static_cast<const T*>(p.grad_output) + item.number * p.channels, p.channels, grad);
  match_corners<T, S>(base, p, s, query, grad, all_products[warp][0], all_products[warp][1]);
  __syncwarp();
  sample_gradients<T>(p, item, s, all_products[warp][0], all_products[warp][1], all_weights[warp][0],
                      all_weights[warp][1]);
  __syncwarp();

  const int64_t width = int64_t(p.heads) * 2 * p.channels;
  A* grad_base = static_cast<A*>(p.grad_key_value) + slot * tokens * width + 2 * item.head * p.channels;
  for (int k = S::group(); k < samples; k += S::GROUPS) {
    const A weight = all_weights[warp][0][k], grad_logit = all_weights[warp][1][k];
#pragma unroll
    for (int chunk = 0; chunk < S::CHUNKS; ++chunk) {
      Pack<T, S::VEC> keys[4];
      read_corners<T, S>(base, p.token_stride, s, k, s.inside[k], chunk, p.channels, keys);
      scatter<S>(grad_base, width, s, k, s.inside[k], chunk, p.channels, grad_logit, query);
      scatter<S>(grad_base + p.channels, width, s, k, s.inside[k], chunk, p.channels, weight, grad);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const A corner = s.corner[c][k] * grad_logit;
#pragma unroll
        for (int i = 0; i < S::VEC; ++i) grad_query[chunk * S::VEC + i] += to_sum(keys[c].v[i]) * corner;
      }
    }
  }
  __syncwarp();
#pragma unroll
  for (int i = 0; i < S::HELD; ++i) grad_query[i] = S::sum_over_groups(grad_query[i]);
  S::write(grad_query, p.channels, static_cast<A*>(p.grad_query) + item.number * p.channels);
}

template <typename T, typename S>
int run_forward(const KeyAware& p, cudaStream_t stream) {
  const unsigned blocks = blocks_for(p.batches * p.queries * p.heads, kForwardWarps);
  if (!blocks) return int(cudaErrorInvalidConfiguration);
  forward<T, S><<<blocks, kForwardWarps * kWarp, 0, stream>>>(p);
  return int(cudaGetLastError());
}

template <typename T>
int run_forward_heads(const KeyAware& p, cudaStream_t stream) {
  const unsigned blocks = blocks_for(p.batches * p.queries * p.heads, HeadGroups<T>::OF_BLOCK);
  forward_heads<T><<<blocks, kHeadWarps * kWarp, 0, stream>>>(p);
  return int(cudaGetLastError());
}

template <typename T, typename S>
int run_backward(const KeyAware& p, cudaStream_t stream) {
  const unsigned blocks = blocks_for(p.batches * p.queries * p.heads, kBackwardWarps);
  if (!blocks) return int(cudaErrorInvalidConfiguration);
  const int last = p.levels - 1;
  const int64_t tokens = p.start[last] + int64_t(p.height[last]) * p.width[last];
  backward<T, S><<<blocks, kBackwardWarps * kWarp, 0, stream>>>(p, tokens);
  return int(cudaGetLastError());
}

}  // namespace

int launch_key_aware_forward(const KeyAware& p, void* stream) {
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

int launch_key_aware_backward(const KeyAware& p, void* stream) {
  if (p.batches * p.queries == 0) return 0;
  return for_storage(p.storage, [&](auto storage) {
    using T = decltype(storage);
    if constexpr (sizeof(T) < 8) {
      if (p.channels == 32) return run_backward<T, Split<4, 8, 1>>(p, cudaStream_t(stream));
    }
    return run_backward<T, OneLaneAChannel>(p, cudaStream_t(stream));
  });
}

}  // namespace taptrv2
