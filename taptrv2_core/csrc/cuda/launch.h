// The CUDA kernels' launchers: plain pointers in, an error code out. `stream` is a cudaStream_t.
#pragma once

#include "../args.h"

namespace taptrv2 {

// Each returns a cudaError_t, 0 for success. Pointers are on the current device. Rows of one token, and outputs, must
// be aligned to 16 bytes where heads have 32 channels.
int launch_multi_scale_forward(const MultiScale& problem, void* stream);
int launch_multi_scale_backward(const MultiScale& problem, void* stream);
// A frame whose slot is not in the ring gets NaN: the slots are on the device, where no error can be raised.
int launch_key_aware_forward(const KeyAware& problem, void* stream);
int launch_key_aware_backward(const KeyAware& problem, void* stream);

const char* describe_cuda_error(int error);

}  // namespace taptrv2
