// The ops on the CPU: picks the kernels for this machine and spreads them over torch's threads.
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/library.h>

#include <string>
#include <tuple>

#include "../prepare.h"
#include "kernels.h"

namespace taptrv2 {
namespace {

// torch's own view of the machine, which the environment variable ATEN_CPU_CAPABILITY can lower.
Kernels kernels_here(const Problem& p) {
#if defined(__x86_64__)
  static const std::string capability = at::get_cpu_capability();
  if (capability == "AVX512") return avx512::kernels(p.storage, p.channels);
  if (capability == "AVX2") return avx2::kernels(p.storage, p.channels);
#endif
  return baseline::kernels(p.storage, p.channels);
}

// Rows that are worth a thread's start: some tens of microseconds.
int64_t grain(const Problem& p) {
  const int64_t corners = int64_t(4) * p.heads * p.levels * p.points * p.channels;
  return 1 + 200000 / corners;
}

at::Tensor multi_scale(const at::Tensor& value, at::IntArrayRef level_shapes, const OptionalTensor& reference,
                       const at::Tensor& offsets, const at::Tensor& weights) {
  MultiScaleInputs in = prepare_multi_scale(value, level_shapes, reference, offsets, weights);
  MultiScale& p = in.args;
  at::Tensor output = at::empty({p.batches, p.queries, int64_t(p.heads) * p.channels}, value.options());
  p.output = output.data_ptr();
  const Kernels kernels = kernels_here(p);
  at::parallel_for(0, p.batches * p.queries, grain(p),
                   [&](int64_t first, int64_t last) { kernels.multi_scale_forward(p, first, last); });
  return output;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> multi_scale_backward(
    const at::Tensor& grad_output, const at::Tensor& value, at::IntArrayRef level_shapes,
    const OptionalTensor& reference, const at::Tensor& offsets, const at::Tensor& weights) {
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
  const Kernels kernels = kernels_here(p);
  at::parallel_for(0, p.batches * p.heads, 1,
                   [&](int64_t first, int64_t last) { kernels.multi_scale_backward(p, first, last); });
  return {grad_value.to(value.scalar_type()), grad_offsets.to(offsets.scalar_type()),
          grad_weights.to(weights.scalar_type())};
}

void check_slots(const KeyAware& p) {
  for (int64_t f = 0; f < p.batches; ++f) {
    TORCH_CHECK(p.slots[f] >= 0 && p.slots[f] < p.ring, "key_aware_deformable_attention: slots[", f, "] is ",
                p.slots[f], ", the ring has ", p.ring, " slots");
  }
}

std::tuple<at::Tensor, at::Tensor> key_aware(const at::Tensor& query, const at::Tensor& key_value,
                                             at::IntArrayRef level_shapes, const OptionalTensor& reference,
                                             const at::Tensor& offsets, const at::Tensor& slots) {
  KeyAwareInputs in = prepare_key_aware(query, key_value, level_shapes, reference, offsets, slots);
  KeyAware& p = in.args;
  check_slots(p);
  at::Tensor output = at::empty({p.batches, p.queries, int64_t(p.heads) * p.channels}, query.options());
  at::Tensor logits =
      at::empty({p.batches, p.queries, int64_t(p.heads), int64_t(p.levels) * p.points}, query.options().dtype(in.sums));
  p.output = output.data_ptr();
  p.logits = logits.data_ptr();
  const Kernels kernels = kernels_here(p);
  at::parallel_for(0, p.batches * p.queries, grain(p),
                   [&](int64_t first, int64_t last) { kernels.key_aware_forward(p, first, last); });
  return {output, logits};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> key_aware_backward(
    const at::Tensor& grad_output, const OptionalTensor& grad_logits, const at::Tensor& query,
    const at::Tensor& key_value, at::IntArrayRef level_shapes, const OptionalTensor& reference,
    const at::Tensor& offsets, const at::Tensor& slots, const at::Tensor& logits) {
  const char* op = "key_aware_deformable_attention";
  KeyAwareInputs in = prepare_key_aware(query, key_value, level_shapes, reference, offsets, slots);
  KeyAware& p = in.args;
  check_slots(p);
  const at::Tensor grad = prepare_gradient(op, grad_output, {p.batches, p.queries, int64_t(p.heads) * p.channels},
                                           query.scalar_type(), query);
  const std::vector<int64_t> logit_sizes = {p.batches, p.queries, p.heads, int64_t(p.levels) * p.points};
  const at::Tensor kept_logits = prepare_gradient(op, logits, logit_sizes, in.sums, query);
  at::Tensor given;
  if (grad_logits.has_value()) given = prepare_gradient(op, *grad_logits, logit_sizes, in.sums, query);
  const auto options = query.options().dtype(in.sums);
  at::Tensor grad_query = at::empty(query.sizes(), options);
  at::Tensor grad_key_value = at::zeros(key_value.sizes(), options);
  at::Tensor grad_offsets = at::empty(offsets.sizes(), options);
  p.logits = kept_logits.data_ptr();
  p.grad_output = grad.data_ptr();
  p.grad_logits = given.defined() && given.numel() ? given.data_ptr() : nullptr;
  p.grad_query = grad_query.data_ptr();
  p.grad_key_value = grad_key_value.data_ptr();
  p.grad_offsets = grad_offsets.data_ptr();
  const Kernels kernels = kernels_here(p);
  at::parallel_for(0, p.ring * p.heads, 1,
                   [&](int64_t first, int64_t last) { kernels.key_aware_backward(p, first, last); });
  return {grad_query.to(query.scalar_type()), grad_key_value.to(query.scalar_type()),
          grad_offsets.to(offsets.scalar_type())};
}

}  // namespace

TORCH_LIBRARY_IMPL(taptrv2, CPU, m) {
  m.impl("multi_scale", &multi_scale);
  m.impl("multi_scale_backward", &multi_scale_backward);
  m.impl("key_aware", &key_aware);
  m.impl("key_aware_backward", &key_aware_backward);
}

}  // namespace taptrv2
