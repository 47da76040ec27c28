// The ops of one device: `Device` says how its kernels are started. Outputs and gradients are made here.
#pragma once

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <tuple>
#include <vector>

#include "prepare.h"

namespace taptrv2 {

// Device has a Guard, made from the tensors' device, and static functions
//   multi_scale_forward(const MultiScale&), multi_scale_backward, key_aware_forward(const KeyAware&),
//   key_aware_backward, check_slots(const KeyAware&).
template <typename Device>
struct Run {
  static at::Tensor multi_scale(const at::Tensor& value, at::IntArrayRef level_shapes, const OptionalTensor& reference,
                                const at::Tensor& offsets, const at::Tensor& weights) {
    const typename Device::Guard guard(value.device());
    MultiScaleInputs in = prepare_multi_scale(value, level_shapes, reference, offsets, weights);
    MultiScale& p = in.args;
    at::Tensor output = at::empty({p.batches, p.queries, int64_t(p.heads) * p.channels}, value.options());
    p.output = output.data_ptr();
    Device::multi_scale_forward(p);
    return output;
  }

  static std::tuple<at::Tensor, at::Tensor, at::Tensor> multi_scale_backward(
      const at::Tensor& grad_output, const at::Tensor& value, at::IntArrayRef level_shapes,
      const OptionalTensor& reference, const at::Tensor& offsets, const at::Tensor& weights) {
    const typename Device::Guard guard(value.device());
    MultiScaleInputs in = prepare_multi_scale(value, level_shapes, reference, offsets, weights);
    MultiScale& p = in.args;
    const at::Tensor grad =
        prepare_gradient("multi_scale_deformable_attention", grad_output,
                         {p.batches, p.queries, int64_t(p.heads) * p.channels}, value.scalar_type(), value);
    const auto options = value.options().dtype(in.sums);
    at::Tensor grad_value = at::zeros(value.sizes(), options);
    at::Tensor grad_offsets = at::empty(offsets.sizes(), options);
    at::Tensor grad_weights = at::empty(weights.sizes(), options);
    p.grad_output = grad.data_ptr();
    p.grad_value = grad_value.data_ptr();
    p.grad_offsets = grad_offsets.data_ptr();
    p.grad_weights = grad_weights.data_ptr();
    Device::multi_scale_backward(p);
    return {grad_value.to(value.scalar_type()), grad_offsets.to(offsets.scalar_type()),
            grad_weights.to(weights.scalar_type())};
  }

  static std::tuple<at::Tensor, at::Tensor> key_aware(const at::Tensor& query, const at::Tensor& key_value,
                                                      at::IntArrayRef level_shapes, const OptionalTensor& reference,
                                                      const at::Tensor& offsets, const at::Tensor& slots) {
    const typename Device::Guard guard(query.device());
    KeyAwareInputs in = prepare_key_aware(query, key_value, level_shapes, reference, offsets, slots);
    KeyAware& p = in.args;
    Device::check_slots(p);
    at::Tensor output = at::empty({p.batches, p.queries, int64_t(p.heads) * p.channels}, query.options());
    at::Tensor logits = at::empty({p.batches, p.queries, int64_t(p.heads), int64_t(p.levels) * p.points},
                                  query.options().dtype(in.sums));
    p.output = output.data_ptr();
    p.logits = logits.data_ptr();
    Device::key_aware_forward(p);
    return {output, logits};
  }

  static std::tuple<at::Tensor, at::Tensor, at::Tensor> key_aware_backward(
      const at::Tensor& grad_output, const OptionalTensor& grad_logits, const at::Tensor& query,
      const at::Tensor& key_value, at::IntArrayRef level_shapes, const OptionalTensor& reference,
      const at::Tensor& offsets, const at::Tensor& slots, const at::Tensor& logits) {
    const char* op = "key_aware_deformable_attention";
    const typename Device::Guard guard(query.device());
    KeyAwareInputs in = prepare_key_aware(query, key_value, level_shapes, reference, offsets, slots);
    KeyAware& p = in.args;
    Device::check_slots(p);
    const std::vector<int64_t> output_sizes = {p.batches, p.queries, int64_t(p.heads) * p.channels};
    const std::vector<int64_t> logit_sizes = {p.batches, p.queries, p.heads, int64_t(p.levels) * p.points};
    const at::Tensor grad = prepare_gradient(op, grad_output, output_sizes, query.scalar_type(), query);
    const at::Tensor kept_logits = prepare_gradient(op, logits, logit_sizes, in.sums, query);
    at::Tensor given;
    if (grad_logits.has_value()) given = prepare_gradient(op, *grad_logits, logit_sizes, in.sums, query);
    const auto options = query.options().dtype(in.sums);
    at::Tensor grad_query = at::empty(query.sizes(), options);
    at::Tensor grad_key_value = at::zeros(key_value.sizes(), options);
    at::Tensor grad_offsets = at::empty(offsets.sizes(), options);
    p.logits = kept_logits.data_ptr();
    p.grad_output = grad.data_ptr();
    p.grad_logits = given.defined() ? given.data_ptr() : nullptr;
    p.grad_query = grad_query.data_ptr();
    p.grad_key_value = grad_key_value.data_ptr();
    p.grad_offsets = grad_offsets.data_ptr();
    Device::key_aware_backward(p);
    return {grad_query.to(query.scalar_type()), grad_key_value.to(query.scalar_type()),
            grad_offsets.to(offsets.scalar_type())};
  }

  static void register_ops(torch::Library& m) {
    m.impl("multi_scale", &multi_scale);
    m.impl("multi_scale_backward", &multi_scale_backward);
    m.impl("key_aware", &key_aware);
    m.impl("key_aware_backward", &key_aware_backward);
  }
};

}  // namespace taptrv2
