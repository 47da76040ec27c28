// What the ops on packed weights share: handing out their parameters, checks, threads.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>  // ATen/ATen.h has all operators, and takes as long to compile as all the rest
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <vector>

#include "../prepare.h"
#include "kernels.h"

namespace taptrv2 {

inline int64_t padded(int64_t count) { return (count + kPanel - 1) / kPanel * kPanel; }

// Hands out the parts of the packed parameters, in the order of taptrv2_core/fast/packing.py.
class Reader {
 public:
  Reader(const char* op, const at::Tensor& parameters)
      : op_(op), next_(parameters.data_ptr<float>()), left_(parameters.numel()) {}

  const float* vector(int64_t count) {
    const float* part = next_;
    left_ -= padded(count);
    TORCH_CHECK(left_ >= 0, op_, ": too few parameters for these sizes");
    next_ += padded(count);
    return part;
  }
  Packed packed(int inputs, int outputs) {
    const float* weight = vector(padded(outputs) * inputs);
    return {weight, vector(outputs), inputs, outputs};
  }
  Norm norm(int channels) {
    const float* weight = vector(channels);
    return {weight, vector(channels)};
  }
  void finish() const { TORCH_CHECK(left_ == 0, op_, ": ", left_, " parameters too many for these sizes"); }

 private:
  const char* op_;
  const float* next_;
  int64_t left_;
};

// Kept from call to call, so that no page is faulted in anew; on a boundary of cache lines, which vectors are not to
// cross.
inline float* thread_scratch(int64_t size) {
  constexpr size_t kLine = 64;
  thread_local std::vector<float> kept;
  size += int64_t(kLine / sizeof(float));
  if (int64_t(kept.size()) < size) kept.resize(size);
  const auto address = reinterpret_cast<uintptr_t>(kept.data());
  return reinterpret_cast<float*>((address + kLine - 1) / kLine * kLine);
}

// Calls work(i) for i in [0, count), spread over the threads.
template <typename Work>
void spread(int64_t count, Work work) {
  at::parallel_for(0, count, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) work(i);
  });
}

inline void check(const char* op, const char* name, const at::Tensor& t, at::IntArrayRef sizes, at::ScalarType type) {
  TORCH_CHECK(t.sizes() == sizes && t.scalar_type() == type && t.is_contiguous() && t.is_cpu(), op, ": ", name,
              " must be a contiguous CPU tensor ", sizes, " of ", type, ", got ", t.sizes(), " of ", t.scalar_type());
}

// A tensor (B, C, H, W) with its channels last in memory.
inline void check_last(const char* op, const char* name, const at::Tensor& t, at::IntArrayRef sizes,
                       at::ScalarType type) {
  TORCH_CHECK(
      t.sizes() == sizes && t.scalar_type() == type && t.is_cpu() && t.is_contiguous(at::MemoryFormat::ChannelsLast),
      op, ": ", name, " must be a CPU tensor ", sizes, " of ", type, " with channels last, got ", t.sizes(), " of ",
      t.scalar_type());
}

}  // namespace taptrv2
