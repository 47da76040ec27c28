// Normalisations of features, with what stands before them: a sum, or the levels put into one tensor.
#include "device.cuh"
#include "launch_steps.h"

namespace taptrv2 {
namespace {

constexpr int kNormWarps = 4, kMostChunks = 4;   // a row: up to kMostChunks vectors a lane
constexpr int kGroupWarps = 8, kGroups = kWarp;  // a lane a group
constexpr int kRowsOfBlock = 128;

template <typename T>
__global__ void __launch_bounds__(kNormWarps* kWarp) add_norm(const __grid_constant__ AddNorm p) {
  constexpr int VEC = 16 / int(sizeof(T));
  const int lane = threadIdx.x % kWarp;
  const int64_t row = int64_t(blockIdx.x) * kNormWarps + threadIdx.x / kWarp;
  if (row >= p.rows) return;
  const T* a = static_cast<const T*>(p.a) + row * p.channels;
  const T* b = static_cast<const T*>(p.b) + row * p.channels;
  float held[kMostChunks][VEC];
  float sum = 0;
#pragma unroll
  for (int chunk = 0; chunk < kMostChunks; ++chunk) {
    const int channel = (chunk * kWarp + lane) * VEC;
    if (channel >= p.channels) continue;
    const Pack<T, VEC> one = Pack<T, VEC>::read(a + channel), other = Pack<T, VEC>::read(b + channel);
#pragma unroll
    for (int i = 0; i < VEC; ++i) {
      held[chunk][i] = to_sum(one.v[i]) + to_sum(other.v[i]);
      sum += held[chunk][i];
    }
  }
  const float mean = sum_of_warp(sum) / float(p.channels);
  float squares = 0;
#pragma unroll
  for (int chunk = 0; chunk < kMostChunks; ++chunk) {
    if ((chunk * kWarp + lane) * VEC >= p.channels) continue;
#pragma unroll
    for (int i = 0; i < VEC; ++i) {
      held[chunk][i] -= mean;
      squares += held[chunk][i] * held[chunk][i];
    }
  }
  const float scale = rsqrtf(sum_of_warp(squares) / float(p.channels) + p.epsilon);
  T* output = static_cast<T*>(p.output) + row * p.channels;
#pragma unroll
  for (int chunk = 0; chunk < kMostChunks; ++chunk) {
    const int channel = (chunk * kWarp + lane) * VEC;
    if (channel >= p.channels) continue;
    const Pack<T, VEC> weight = Pack<T, VEC>::read(static_cast<const T*>(p.weight) + channel);
    const Pack<T, VEC> bias = Pack<T, VEC>::read(static_cast<const T*>(p.bias) + channel);
    Pack<T, VEC> result;
#pragma unroll
    for (int i = 0; i < VEC; ++i) {
      from_sum(held[chunk][i] * scale * to_sum(weight.v[i]) + to_sum(bias.v[i]), result.v[i]);
    }
    result.write(output + channel);
  }
}

// The rows of one block: a chunk of one level of one image.
struct Chunk {
  int level, first, rows, of_level, before;  // before: chunks of the levels before

  __device__ Chunk(const GroupNorm& p, int number) : level(0), before(0) {
    int chunks = (p.rows[0] + kRowsOfBlock - 1) / kRowsOfBlock;
    while (number >= before + chunks) {
      before += chunks;
      ++level;
      chunks = (p.rows[level] + kRowsOfBlock - 1) / kRowsOfBlock;
    }
    of_level = chunks;
    first = (number - before) * kRowsOfBlock;
    rows = min(kRowsOfBlock, p.rows[level] - first);
  }
};

// Mean of each group in a chunk, and the sum of squared distances from it. A warp takes a row, a lane a group.
template <typename T, int SIZE>
__global__ void __launch_bounds__(kGroupWarps* kWarp) group_statistics(const __grid_constant__ GroupNorm p) {
  __shared__ float sums[2][kGroupWarps][kGroups];
  const int warp = threadIdx.x / kWarp, group = threadIdx.x % kWarp, image = blockIdx.y;
  const Chunk chunk(p, blockIdx.x);
  const int64_t begin = (int64_t(image) * p.rows[chunk.level] + chunk.first) * p.channels + group * SIZE;
  const T* input = static_cast<const T*>(p.input[chunk.level]) + begin;
  const float shift = to_sum(input[0]);  // near the mean, so that squares do not cancel
  float sum = 0, squares = 0;
#pragma unroll 4
  for (int row = warp; row < chunk.rows; row += kGroupWarps) {
#pragma unroll
    for (int part = 0; part < SIZE; part += 4) {
      const Pack<T, 4> pack = Pack<T, 4>::read(input + int64_t(row) * p.channels + part);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float v = to_sum(pack.v[i]) - shift;
        sum += v;
        squares += v * v;
      }
    }
  }
  sums[0][warp][group] = sum;
  sums[1][warp][group] = squares;
  __syncthreads();
  if (warp != 0) return;
  sum = squares = 0;
#pragma unroll
  for (int i = 0; i < kGroupWarps; ++i) {
    sum += sums[0][i][group];
    squares += sums[1][i][group];
  }
  const float mean = sum / float(chunk.rows * SIZE);
  float* partial = p.partial + ((int64_t(image) * gridDim.x + blockIdx.x) * kGroups + group) * 2;
  partial[0] = mean + shift;
  partial[1] = fmaxf(squares - sum * mean, 0.f);
}

// Mean and 1 / standard deviation of each group in the block's level, in shared memory.
template <int SIZE>
__device__ inline void level_statistics(const GroupNorm& p, const Chunk& chunk, int image, float (&means)[kGroups],
                                        float (&scales)[kGroups]) {
  __shared__ float sums[kGroupWarps][kGroups];
  const int warp = threadIdx.x / kWarp, group = threadIdx.x % kWarp, rows = p.rows[chunk.level];
  const float* partial = p.partial + ((int64_t(image) * gridDim.x + chunk.before) * kGroups + group) * 2;
#pragma unroll
  for (int pass = 0; pass < 2; ++pass) {  // the mean, then what is around it
    float sum = 0;
    for (int i = warp; i < chunk.of_level; i += kGroupWarps) {
      const float count = float(min(kRowsOfBlock, rows - i * kRowsOfBlock) * SIZE);
      const float mean = partial[i * kGroups * 2], away = mean - (pass ? means[group] : 0.f);
      sum += pass ? partial[i * kGroups * 2 + 1] + count * away * away : count * mean;
    }
    sums[warp][group] = sum;
    __syncthreads();
    if (warp == 0) {
      sum = 0;
#pragma unroll
      for (int i = 0; i < kGroupWarps; ++i) sum += sums[i][group];
      sum /= float(rows) * float(SIZE);
      if (pass) {
        scales[group] = rsqrtf(sum + p.epsilon);
      } else {
        means[group] = sum;
      }
    }
    __syncthreads();
  }
}

template <typename T, int SIZE>
__global__ void __launch_bounds__(kGroupWarps* kWarp) group_apply(const __grid_constant__ GroupNorm p) {
  __shared__ float means[kGroups], scales[kGroups];
  const int warp = threadIdx.x / kWarp, group = threadIdx.x % kWarp, image = blockIdx.y;
  const Chunk chunk(p, blockIdx.x);
  level_statistics<SIZE>(p, chunk, image, means, scales);
  float factor[SIZE], shift[SIZE];
#pragma unroll
  for (int i = 0; i < SIZE; ++i) {
    factor[i] = to_sum(static_cast<const T*>(p.weight[chunk.level])[group * SIZE + i]) * scales[group];
    shift[i] = to_sum(static_cast<const T*>(p.bias[chunk.level])[group * SIZE + i]) - means[group] * factor[i];
  }
  const int64_t from = int64_t(image) * p.rows[chunk.level] + chunk.first;
  const int64_t to = int64_t(image) * p.tokens + p.start[chunk.level] + chunk.first;
  const T* input = static_cast<const T*>(p.input[chunk.level]) + from * p.channels + group * SIZE;
  T* output = static_cast<T*>(p.output) + to * p.channels + group * SIZE;
#pragma unroll 4
  for (int row = warp; row < chunk.rows; row += kGroupWarps) {
#pragma unroll
    for (int part = 0; part < SIZE; part += 4) {
      Pack<T, 4> pack = Pack<T, 4>::read(input + int64_t(row) * p.channels + part);
#pragma unroll
      for (int i = 0; i < 4; ++i) from_sum(to_sum(pack.v[i]) * factor[part + i] + shift[part + i], pack.v[i]);
      pack.write(output + int64_t(row) * p.channels + part);
    }
  }
}

template <typename T, int SIZE>
int run_group_norm(const GroupNorm& p, cudaStream_t stream) {
  const dim3 blocks(unsigned(group_norm_chunks(p)), unsigned(p.batches));
  group_statistics<T, SIZE><<<blocks, kGroupWarps * kWarp, 0, stream>>>(p);
  group_apply<T, SIZE><<<blocks, kGroupWarps * kWarp, 0, stream>>>(p);
  return int(cudaGetLastError());
}

}  // namespace

int group_norm_chunks(const GroupNorm& p) {
  int chunks = 0;
  for (int level = 0; level < p.levels; ++level) chunks += (p.rows[level] + kRowsOfBlock - 1) / kRowsOfBlock;
  return chunks;
}

int launch_add_norm(const AddNorm& p, void* stream) {
  if (p.rows == 0) return 0;
  return for_features(p.storage, [&](auto storage) {
    using T = decltype(storage);
    const unsigned blocks = blocks_for(p.rows, kNormWarps);
    if (!blocks) return int(cudaErrorInvalidConfiguration);
    add_norm<T><<<blocks, kNormWarps * kWarp, 0, cudaStream_t(stream)>>>(p);
    return int(cudaGetLastError());
  });
}

int launch_group_norm(const GroupNorm& p, void* stream) {
  if (p.batches == 0) return 0;
  return for_features(p.storage, [&](auto storage) {
    using T = decltype(storage);
    if (p.channels == 4 * kGroups) return run_group_norm<T, 4>(p, cudaStream_t(stream));
    return run_group_norm<T, 8>(p, cudaStream_t(stream));
  });
}

}  // namespace taptrv2
