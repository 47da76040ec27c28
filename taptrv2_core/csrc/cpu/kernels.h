// The CPU kernels, compiled once for each instruction set; the caller picks what the machine has.
#pragma once

#include "../args.h"

namespace taptrv2 {

struct Kernels {
  // Rows are b * Q + q.
  void (*multi_scale_forward)(const MultiScale&, int64_t first_row, int64_t last_row);
  void (*key_aware_forward)(const KeyAware&, int64_t first_row, int64_t last_row);
  // Tasks are b * M + m, or slot * M + m: two tasks never add to the same gradient.
  void (*multi_scale_backward)(const MultiScale&, int64_t first_task, int64_t last_task);
  void (*key_aware_backward)(const KeyAware&, int64_t first_task, int64_t last_task);
};

namespace baseline {
Kernels kernels(Storage storage, int channels);
}
#if defined(__x86_64__)
namespace avx2 {
Kernels kernels(Storage storage, int channels);
}
namespace avx512 {
Kernels kernels(Storage storage, int channels);
}
#endif

}  // namespace taptrv2
