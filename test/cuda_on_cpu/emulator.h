// Runs CUDA kernels on a CPU: the words of CUDA that the kernels use, for a C++ compiler. Blocks run one after another.
// A block's threads are fibers that take turns at its barriers, lanes in rising order in one block and in falling order
// in the next, so that what does not wait for a barrier meets stale numbers. Ends the process, with one sentence, where
// lanes wait for one another at different places or read from lanes that have ended.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <set>
#include <vector>

#define __global__
#define __device__
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

using cudaStream_t = void*;
using cudaError_t = int;
constexpr int cudaErrorInvalidConfiguration = 9;
inline int cudaGetLastError() { return 0; }
inline const char* cudaGetErrorString(int) { return "invalid configuration"; }

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

constexpr unsigned kLanes = 32, kMostThreads = 1024;
constexpr size_t kStack = 1 << 16;

struct Place {  // of a barrier in the source
  const char* word;
  const char* file;
  int line;
  bool operator==(const Place& o) const { return word == o.word && line == o.line && !strcmp(file, o.file); }
};

struct Lane {
  ucontext_t context;
  bool live;
  Place place;      // what it waits at
  unsigned source;  // the thread that it receives from there
  uint64_t sent, received;
};

inline std::vector<Lane> lanes;
inline std::vector<char> stacks;
inline std::function<void()> kernel;
inline std::set<const void*> shared;  // arrays of this block that were met
inline ucontext_t scheduler;
inline unsigned running;
inline int launches;

inline void require(bool holds, const char* fault, const Place& at) {
  if (holds) return;
  fprintf(stderr, "%s:%d: %s: %s (block %u, thread %u)\n", at.file, at.line, at.word, fault, blockIdx.x, running);
  std::_Exit(1);
}

inline void wait(const Place& place, unsigned mask, unsigned source) {
  require(mask == ~0u, "only whole warps are emulated", place);
  lanes[running].place = place;
  lanes[running].source = source;
  swapcontext(&lanes[running].context, &scheduler);
}

inline void enter() {
  kernel();
  lanes[running].live = false;
}

inline void resume(unsigned thread) {
  running = thread;
  threadIdx = dim3(thread);
  swapcontext(&scheduler, &lanes[thread].context);
}

// What all of these threads wait at that have not ended; null if all have.
inline const Place* common(unsigned first, unsigned count) {
  const Place* place = nullptr;
  for (running = first; running < first + count; ++running) {
    if (!lanes[running].live) continue;
    if (place) require(*place == lanes[running].place, "other threads wait elsewhere", lanes[running].place);
    place = &lanes[running].place;
  }
  return place;
}

inline bool of_block(const Place& place) { return !strcmp(place.word, "__syncthreads"); }

// Up to where the warp has ended or waits for its block.
inline void run_warp(unsigned first, bool falling) {
  for (const Place* place = nullptr; !place || !of_block(*place);) {
    for (unsigned i = 0; i < kLanes; ++i) {
      const unsigned thread = first + (falling ? kLanes - 1 - i : i);
      if (lanes[thread].live) resume(thread);
    }
    place = common(first, kLanes);
    if (!place) return;
    for (running = first; running < first + kLanes; ++running) {
      const Lane& source = lanes[lanes[running].source];
      if (!lanes[running].live) continue;
      require(source.live, "the lane to receive from has ended", lanes[running].place);
      lanes[running].received = source.sent;
    }
  }
}

inline void run_block(bool falling) {
  const unsigned threads = blockDim.x;
  shared.clear();
  for (unsigned i = 0; i < threads; ++i) {
    Lane& lane = lanes[i];
    getcontext(&lane.context);
    lane.live = true;
    lane.context.uc_stack.ss_sp = &stacks[i * kStack];
    lane.context.uc_stack.ss_size = kStack;
    lane.context.uc_link = &scheduler;
    makecontext(&lane.context, enter, 0);
  }
  do {
    for (unsigned i = 0; i < threads; i += kLanes) run_warp(falling ? threads - kLanes - i : i, falling);
  } while (common(0, threads));
}

// kernel<<<grid, block, dynamic, stream>>>(...) becomes Launch(grid, block, dynamic, stream)([&] { kernel(...); }).
struct Launch {
  Launch(dim3 grid, dim3 block, size_t dynamic, cudaStream_t) {
    const Place here = {"launch", "kernel", launches};
    require(block.y == 1 && block.z == 1 && block.x % kLanes == 0 && dynamic == 0, "not emulated", here);
    require(grid.x && grid.y && grid.z && block.x && block.x <= kMostThreads && grid.x < 1u << 31 &&
                grid.y < 1u << 16 && grid.z < 1u << 16,
            "impossible sizes", here);
    gridDim = grid;
    blockDim = block;
  }
  void operator()(std::function<void()> of_thread) const {
    kernel = of_thread;
    lanes.resize(blockDim.x);
    stacks.resize(blockDim.x * kStack);
    ++launches;
    for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z) {
      for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y) {
        for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) run_block((blockIdx.x + launches) % 2);
      }
    }
  }
};

// A __shared__ array becomes a static one that holds NaN (or -1) when the first thread of a block meets it.
template <typename T>
void forget(T& array) {
  if (shared.insert(&array).second) memset(static_cast<void*>(&array), 0xff, sizeof array);
}

template <typename To, typename From>
To bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

}  // namespace emulator

#define EMULATED_CALLER const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(EMULATED_CALLER) { emulator::wait({"__syncthreads", file, line}, ~0u, emulator::running); }
inline void __syncwarp(unsigned mask = ~0u, EMULATED_CALLER) {
  emulator::wait({"__syncwarp", file, line}, mask, emulator::running);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T v, int step, EMULATED_CALLER) {
  emulator::Lane& own = emulator::lanes[emulator::running];
  memcpy(&own.sent, &v, sizeof v);
  emulator::wait({"__shfl_xor_sync", file, line}, mask, emulator::running ^ unsigned(step));
  memcpy(&v, &own.received, sizeof v);
  return v;
}

template <typename T>
T __ldg(const T* p) {
  return *p;
}
template <typename T>
T atomicAdd(T* p, T v) {
  const T before = *p;
  *p += v;
  return before;
}
inline void atomicAdd(float4* p, float4 v) { *p = {p->x + v.x, p->y + v.y, p->z + v.z, p->w + v.w}; }

using std::max;
using std::min;
inline float rsqrtf(float v) { return 1 / sqrtf(v); }
inline uint32_t __float_as_uint(float v) { return emulator::bits<uint32_t>(v); }
inline float __uint_as_float(uint32_t v) { return emulator::bits<float>(v); }

struct __half {
  uint16_t bits;
};
inline __half __ushort_as_half(uint16_t v) { return {v}; }
inline uint16_t __half_as_ushort(__half v) { return v.bits; }
inline float __half2float(__half v) {
  const int exponent = v.bits >> 10 & 31, fraction = v.bits & 1023;
  float size = ldexpf(float(exponent ? 1024 + fraction : fraction), std::max(exponent, 1) - 25);
  if (exponent == 31) size = fraction ? NAN : INFINITY;
  return v.bits >> 15 ? -size : size;
}
inline __half __float2half_rn(float v) {  // to the nearest, ties to even
  const uint16_t sign = std::signbit(v) ? 0x8000 : 0;
  if (v != v) return {0x7fff};
  if (fabsf(v) >= 65520.f) return {uint16_t(sign | 0x7c00)};
  int exponent;
  frexpf(v, &exponent);  // |v| in [2^(exponent - 1), 2^exponent)
  exponent = v == 0 ? -13 : std::max(exponent, -13);
  const int whole = int(nearbyintf(ldexpf(fabsf(v), 11 - exponent)));  // 2048 counts on into the exponent
  return {uint16_t(sign | (((exponent + 13) << 10) + whole))};
}

namespace c10::cuda {  // what starts the kernels: no device to choose, no stream

struct CUDAGuard {
  template <typename Device>
  explicit CUDAGuard(const Device&) {}
};
struct Stream {
  void* stream() const { return nullptr; }
};
inline Stream getCurrentCUDAStream() { return {}; }

}  // namespace c10::cuda
