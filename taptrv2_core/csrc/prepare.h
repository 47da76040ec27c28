// From tensors to kernel arguments: every check of shape and type is here, for CPU and CUDA alike.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "args.h"

namespace taptrv2 {

using OptionalTensor = std::optional<at::Tensor>;

// The tensors are those that the pointers in `args` point into; they must outlive the kernel.
struct MultiScaleInputs {
  MultiScale args;
  at::Tensor value, reference, offsets, weights;
  at::ScalarType sums;
};

struct KeyAwareInputs {
  KeyAware args;
  at::Tensor query, key_value, reference, offsets, slots;
  at::ScalarType sums;
};

// Sets levels and points a level and head; returns the number of tokens.
int64_t set_levels(const char* op, at::IntArrayRef level_shapes, int64_t points, Problem& p);

MultiScaleInputs prepare_multi_scale(const at::Tensor& value, at::IntArrayRef level_shapes,
                                     const OptionalTensor& reference, const at::Tensor& offsets,
                                     const at::Tensor& weights);

KeyAwareInputs prepare_key_aware(const at::Tensor& query, const at::Tensor& key_value, at::IntArrayRef level_shapes,
                                 const OptionalTensor& reference, const at::Tensor& offsets, const at::Tensor& slots);

// The upstream gradient, checked and made contiguous.
at::Tensor prepare_gradient(const char* op, const at::Tensor& grad, at::IntArrayRef sizes, at::ScalarType type,
                            const at::Tensor& like);

}  // namespace taptrv2
