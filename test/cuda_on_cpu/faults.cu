// One right kernel, and faults that must not go unnoticed: `faults NAME`.
#include "emulator.h"

namespace {

__global__ void turned(const float* from, float* to, bool waits, int beyond) {
  __shared__ float held[64];
  held[threadIdx.x] = from[threadIdx.x];
  if (waits) __syncthreads();
  to[threadIdx.x] = held[63 - threadIdx.x + beyond];
}

__global__ void summed(const float* from, float* to, unsigned leave, bool apart) {
  float v = from[threadIdx.x];
  if (threadIdx.x >= leave) return;
  if (apart && threadIdx.x % 2) {
    __syncwarp();
  }
  for (int step = 1; step < 32; step *= 2) v += __shfl_xor_sync(~0u, v, step);
  to[threadIdx.x] = v;
}

bool right(const char* fault) {
  const auto is = [fault](const char* name) { return !strcmp(fault, name); };
  std::vector<float> from(is("memory") ? 63 : 64), to(64), sums(64);
  for (size_t i = 0; i < from.size(); ++i) from[i] = float(i);
  for (int repeated = 0; repeated < 2; ++repeated) {
    turned<<<1, 64, 0, nullptr>>>(from.data(), to.data(), !is("barrier"), is("array") ? 1 : 0);
    summed<<<1, 64, 0, nullptr>>>(from.data(), sums.data(), is("ended") ? 40 : 64, is("apart"));
    for (int i = 0; i < 64; ++i) {
      if (to[i] != float(63 - i) || sums[i] != (i < 32 ? 496.f : 1520.f)) return false;
    }
  }
  return true;
}

}  // namespace

int main(int, char** words) {
  const bool as_expected = right(words[1]);
  puts(as_expected ? "right" : "wrong numbers");
  return as_expected ? 0 : 1;
}
