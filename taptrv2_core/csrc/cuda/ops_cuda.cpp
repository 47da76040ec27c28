// The ops on CUDA devices: starts the kernels on torch's current stream and turns error codes into exceptions.
#include <c10/cuda/CUDAGuard.h>

#include "../run.h"
#include "start.h"

namespace taptrv2 {
namespace {

struct Cuda {
  using Guard = c10::cuda::CUDAGuard;

  static void multi_scale_forward(const MultiScale& p) {
    check_started("multi_scale_forward", launch_multi_scale_forward(p, current_stream()));
  }
  static void multi_scale_backward(const MultiScale& p) {
    check_started("multi_scale_backward", launch_multi_scale_backward(p, current_stream()));
  }
  static void key_aware_forward(const KeyAware& p) {
    check_started("key_aware_forward", launch_key_aware_forward(p, current_stream()));
  }
  static void key_aware_backward(const KeyAware& p) {
    check_started("key_aware_backward", launch_key_aware_backward(p, current_stream()));
  }

  // Slots are on the device: to look at them here would stop the stream. The kernels answer a wrong one with NaN.
  static void check_slots(const KeyAware&) {}
};

}  // namespace

TORCH_LIBRARY_IMPL(taptrv2, CUDA, m) { Run<Cuda>::register_ops(m); }

}  // namespace taptrv2
