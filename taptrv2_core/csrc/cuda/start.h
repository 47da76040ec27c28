// Starting kernels from torch: its current stream, and error codes as exceptions.
#pragma once

#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>

#include "launch.h"

namespace taptrv2 {

inline void* current_stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

inline void check_started(const char* kernel, int error) {
  TORCH_CHECK(error == 0, "taptrv2 ops: the CUDA kernel ", kernel, " did not start: ", describe_cuda_error(error),
              " (error ", error, "). Is the library built for this GPU's architecture (TORCH_CUDA_ARCH_LIST)?");
}

}  // namespace taptrv2
