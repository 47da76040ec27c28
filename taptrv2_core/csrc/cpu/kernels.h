// The CPU kernels, compiled once for each instruction set; the caller picks what the machine has.
#pragma once

#include "../args.h"
#include "../window.h"

namespace taptrv2 {

struct Kernels {
  // Rows are b * Q + q.
  void (*multi_scale_forward)(const MultiScale&, int64_t first_row, int64_t last_row);
  void (*key_aware_forward)(const KeyAware&, int64_t first_row, int64_t last_row);
  // Tasks are b * M + m, or slot * M + m: two tasks never add to the same gradient.
  void (*multi_scale_backward)(const MultiScale&, int64_t first_task, int64_t last_task);
  void (*key_aware_backward)(const KeyAware&, int64_t first_task, int64_t last_task);
};

// The passes of a window's layer, for `count` queries from `first`; scratch of `window_scratch` floats.
struct WindowKernels {
  void (*gather_layer)(const Window&, int first, int count, float* scratch);
  void (*answer_layer)(const Window&, int frame, int first, int count, float* scratch);
};

namespace baseline {
Kernels kernels(Storage storage, int channels);
WindowKernels window_kernels(Storage storage);
}  // namespace baseline
#if defined(__x86_64__)
namespace avx2 {
Kernels kernels(Storage storage, int channels);
WindowKernels window_kernels(Storage storage);
}  // namespace avx2
namespace avx512 {
Kernels kernels(Storage storage, int channels);
WindowKernels window_kernels(Storage storage);
}  // namespace avx512
#endif

}  // namespace taptrv2
