// The ops of a tracking step on CUDA devices, for inference: checks, outputs, kernels on torch's current stream.
#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <cmath>
#include <optional>
#include <tuple>
#include <vector>

#include "launch_steps.h"
#include "start.h"

namespace taptrv2 {
namespace {

using at::Tensor;

constexpr int64_t kPositionChannels = 2, kBoxChannels = 4;

Storage storage_of(const char* op, at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return Storage::f32;
    case at::kBFloat16:
      return Storage::bf16;
    case at::kHalf:
      return Storage::f16;
    default:
      TORCH_CHECK(false, op, ": float32, bfloat16 or float16 expected, got ", type);
  }
}

// Contiguous, with a pointer that vectors of 16 bytes can be read from.
Tensor readable(const char* op, const Tensor& t, at::ScalarType type, int64_t numbers, const Tensor& like) {
  TORCH_CHECK(t.scalar_type() == type && t.numel() == numbers && t.device() == like.device(), op, ": expected ",
              numbers, " numbers of ", type, " on ", like.device(), ", got ", t.sizes(), " of ", t.scalar_type(),
              " on ", t.device());
  const Tensor whole = t.contiguous();
  return reinterpret_cast<uintptr_t>(whole.data_ptr()) % 16 == 0 ? whole : whole.clone();
}

std::vector<int64_t> with_last(const Tensor& like, int64_t last) {
  std::vector<int64_t> sizes = like.sizes().vec();
  sizes.back() = last;
  return sizes;
}

Tensor add_norm(const Tensor& a, const Tensor& b, const Tensor& weight, const Tensor& bias, double epsilon) {
  const char* op = "add_norm";
  const c10::cuda::CUDAGuard guard(a.device());
  const auto type = a.scalar_type();
  const int64_t channels = a.size(-1);
  TORCH_CHECK(channels > 0 && channels * a.element_size() % 16 == 0 && channels <= 512, op, ": ", channels,
              " channels");
  const Tensor one = readable(op, a, type, a.numel(), a), other = readable(op, b, type, a.numel(), a);
  const Tensor scale = readable(op, weight, type, channels, a), shift = readable(op, bias, type, channels, a);
  Tensor output = at::empty(a.sizes(), a.options().memory_format(at::MemoryFormat::Contiguous));
  const AddNorm problem{storage_of(op, type), a.numel() / channels, int(channels),    float(epsilon),   one.data_ptr(),
                        other.data_ptr(),     scale.data_ptr(),     shift.data_ptr(), output.data_ptr()};
  check_started(op, launch_add_norm(problem, current_stream()));
  return output;
}

Tensor group_norm(at::TensorList levels, at::TensorList weights, at::TensorList biases, double epsilon) {
  const char* op = "group_norm_tokens";
  TORCH_CHECK(!levels.empty() && levels.size() <= kMaxLevels && weights.size() == levels.size() &&
                  biases.size() == levels.size(),
              op, ": 1 to ", kMaxLevels, " levels, with weight and bias");
  const Tensor& like = levels[0];
  const c10::cuda::CUDAGuard guard(like.device());
  const auto type = like.scalar_type();
  const int64_t batches = like.size(0), channels = like.size(-1);
  TORCH_CHECK(channels == 128 || channels == 256, op, ": 128 or 256 channels, got ", channels);
  GroupNorm p{};
  p.storage = storage_of(op, type);
  p.batches = int(batches);
  p.levels = int(levels.size());
  p.groups = 32;
  p.channels = int(channels);
  p.epsilon = float(epsilon);
  std::vector<Tensor> kept;
  for (size_t i = 0; i < levels.size(); ++i) {
    TORCH_CHECK(levels[i].dim() == 3 && levels[i].size(0) == batches && levels[i].size(1) > 0, op,
                ": levels must be (B, S, C), got ", levels[i].sizes());
    const int64_t rows = levels[i].size(1);
    kept.push_back(readable(op, levels[i], type, batches * rows * channels, like));
    p.input[i] = kept.back().data_ptr();
    kept.push_back(readable(op, weights[i], type, channels, like));
    p.weight[i] = kept.back().data_ptr();
    kept.push_back(readable(op, biases[i], type, channels, like));
    p.bias[i] = kept.back().data_ptr();
    p.rows[i] = int(rows);
    p.start[i] = p.tokens;
    p.tokens += int(rows);
  }
  Tensor output = at::empty({batches, p.tokens, channels}, like.options());
  Tensor partial = at::empty({batches, group_norm_chunks(p), p.groups, 2}, like.options().dtype(at::kFloat));
  p.partial = partial.data_ptr<float>();
  p.output = output.data_ptr();
  check_started(op, launch_group_norm(p, current_stream()));
  return output;
}

// Frequencies and phases, (half,) each; kept by the caller.
Code code_of(const char* op, const Tensor& frequency, const Tensor& phase, const Tensor& like) {
  TORCH_CHECK(frequency.is_contiguous() && phase.is_contiguous() && frequency.scalar_type() == at::kFloat &&
                  phase.scalar_type() == at::kFloat && frequency.numel() == phase.numel() &&
                  frequency.device() == like.device() && phase.device() == like.device(),
              op, ": frequency and phase must be contiguous float32 of one length");
  return {int(frequency.numel()), frequency.data_ptr<float>(), phase.data_ptr<float>()};
}

std::tuple<Tensor, Tensor, Tensor> box_code(const Tensor& reference, const Tensor& frequency, const Tensor& phase,
                                            at::ScalarType type) {
  const char* op = "box_code";
  const c10::cuda::CUDAGuard guard(reference.device());
  TORCH_CHECK(reference.size(-1) == kBoxChannels, op, ": reference must be (..., 4), got ", reference.sizes());
  const Tensor given = readable(op, reference, at::kFloat, reference.numel(), reference);
  const auto options = given.options();
  Tensor box = at::empty(reference.sizes(), options);
  Tensor position = at::empty(with_last(reference, kPositionChannels), options);
  Tensor embedding = at::empty(with_last(reference, 4 * frequency.numel()), options.dtype(type));
  const BoxCode problem{storage_of(op, type),    given.numel() / kBoxChannels, code_of(op, frequency, phase, given),
                        given.data_ptr<float>(), box.data_ptr<float>(),        position.data_ptr<float>(),
                        embedding.data_ptr()};
  check_started(op, launch_box_code(problem, current_stream()));
  return {box, position, embedding};
}

std::tuple<Tensor, Tensor, Tensor> move(const Tensor& box, const Tensor& logits, const Tensor& offsets,
                                        const Tensor& cells, const Tensor& updated, const Tensor& frequency,
                                        const Tensor& phase) {
  const char* op = "move_positions";
  const c10::cuda::CUDAGuard guard(box.device());
  const auto type = logits.scalar_type();
  const int64_t pairs = box.numel() / kBoxChannels, samples = logits.size(-1), half = frequency.numel();
  const Tensor given = readable(op, box, at::kFloat, pairs * kBoxChannels, box);
  const Tensor numbers = readable(op, logits, type, pairs * samples, box);
  const Tensor ways = readable(op, offsets, type, pairs * samples * 2, box);
  const Tensor sizes = readable(op, cells, at::kFloat, samples * 2, box);
  const Tensor chosen = readable(op, updated, at::kBool, pairs, box);
  const auto options = given.options();
  Tensor moved = at::empty(with_last(box, kPositionChannels), options);
  Tensor embedding = at::empty(with_last(box, 4 * half), options.dtype(type));
  Tensor travelled = at::empty(with_last(box, 2 * half), options.dtype(type));
  const Move problem{storage_of(op, type),
                     pairs,
                     int(samples),
                     code_of(op, frequency, phase, given),
                     given.data_ptr<float>(),
                     numbers.data_ptr(),
                     ways.data_ptr(),
                     sizes.data_ptr<float>(),
                     chosen.data_ptr<bool>(),
                     moved.data_ptr<float>(),
                     embedding.data_ptr(),
                     travelled.data_ptr()};
  check_started(op, launch_move(problem, current_stream()));
  return {moved, embedding, travelled};
}

Tensor refine_boxes(const Tensor& moved, const Tensor& box, const Tensor& reference, const Tensor& updated,
                    const Tensor& delta) {
  const char* op = "refine_boxes";
  const c10::cuda::CUDAGuard guard(box.device());
  const int64_t pairs = box.numel() / kBoxChannels;
  const Tensor place = readable(op, moved, at::kFloat, pairs * kPositionChannels, box);
  const Tensor begun = readable(op, box, at::kFloat, pairs * kBoxChannels, box);
  const Tensor before = readable(op, reference, at::kFloat, pairs * kBoxChannels, box);
  const Tensor chosen = readable(op, updated, at::kBool, pairs, box);
  const Tensor change = readable(op, delta, delta.scalar_type(), pairs * kBoxChannels, box);
  Tensor output = at::empty(box.sizes(), begun.options());
  const RefineBoxes problem{storage_of(op, delta.scalar_type()),
                            pairs,
                            place.data_ptr<float>(),
                            begun.data_ptr<float>(),
                            before.data_ptr<float>(),
                            chosen.data_ptr<bool>(),
                            change.data_ptr(),
                            output.data_ptr<float>()};
  check_started(op, launch_refine_boxes(problem, current_stream()));
  return output;
}

Tensor frame_attention(const Tensor& query_key, const Tensor& value, const std::optional<Tensor>& tracked,
                       int64_t heads) {
  const char* op = "frame_attention";
  const c10::cuda::CUDAGuard guard(value.device());
  TORCH_CHECK(value.dim() == 3 && value.size(2) == 32 * heads, op, ": value must be (F, N, 32 * heads), got ",
              value.sizes());
  const int64_t frames = value.size(0), queries = value.size(1);
  const auto type = value.scalar_type();
  const Tensor asked = readable(op, query_key, type, 2 * value.numel(), value);
  const Tensor values = readable(op, value, type, value.numel(), value);
  Tensor kept;
  if (tracked.has_value()) kept = readable(op, *tracked, at::kBool, frames * queries, value);
  Tensor output = at::empty(value.sizes(), values.options());
  const FrameAttention problem{storage_of(op, type),
                               int(frames),
                               int(heads),
                               32,
                               queries,
                               float(1 / std::sqrt(32.0)),
                               asked.data_ptr(),
                               values.data_ptr(),
                               kept.defined() ? kept.data_ptr<bool>() : nullptr,
                               output.data_ptr()};
  check_started(op, launch_frame_attention(problem, current_stream()));
  return output;
}

}  // namespace

TORCH_LIBRARY_IMPL(taptrv2, CUDA, m) {
  m.impl("add_norm", &add_norm);
  m.impl("group_norm_tokens", &group_norm);
  m.impl("box_code", &box_code);
  m.impl("move_positions", &move);
  m.impl("refine_boxes", &refine_boxes);
  m.impl("frame_attention", &frame_attention);
}

}  // namespace taptrv2
