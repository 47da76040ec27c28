#include "prepare.h"

#include <cmath>
#include <limits>

namespace taptrv2 {
namespace {

Storage storage_of(const char* op, const char* name, const at::Tensor& t) {
  switch (t.scalar_type()) {
    case at::kFloat:
      return Storage::f32;
    case at::kDouble:
      return Storage::f64;
    case at::kBFloat16:
      return Storage::bf16;
    case at::kHalf:
      TORCH_CHECK(!t.is_cpu(), op, ": ", name, " is float16, which has no CPU kernel; use bfloat16 or float32");
      return Storage::f16;
    default:
      TORCH_CHECK(false, op, ": ", name, " must be float32, float64, bfloat16 or float16, got ", t.scalar_type());
  }
}

at::ScalarType sums_of(Storage storage) { return storage == Storage::f64 ? at::kDouble : at::kFloat; }

void check_sizes(const char* op, const char* name, const at::Tensor& t, at::IntArrayRef sizes, const char* meaning) {
  TORCH_CHECK(t.sizes() == sizes, op, ": ", name, " must be ", meaning, " = ", sizes, ", got ", t.sizes());
}

void check_device(const char* op, const char* name, const at::Tensor& t, const at::Tensor& like) {
  TORCH_CHECK(t.device() == like.device(), op, ": ", name, " is on ", t.device(), ", the other tensors on ",
              like.device());
}

// Levels and points, as `offsets` have them. `tokens` is what the level shapes must add up to.
void set_problem(const char* op, at::IntArrayRef level_shapes, int64_t tokens, const at::Tensor& offsets, Problem& p) {
  const int64_t levels = int64_t(level_shapes.size()) / 2;
  TORCH_CHECK(offsets.dim() == 6 && offsets.size(3) == levels && offsets.size(5) == 2, op,
              ": locations or offsets must be (B, Q, M, L, P, 2) with L = ", levels, ", got ", offsets.sizes());
  const int64_t found = set_levels(op, level_shapes, offsets.size(4), p);
  TORCH_CHECK(found == tokens, op, ": level_shapes ", level_shapes, " make ", found, " tokens, the tensor has ",
              tokens);
}

void set_heads(const char* op, int64_t heads, int64_t channels, Problem& p) {
  TORCH_CHECK(heads >= 1 && heads <= std::numeric_limits<int>::max(), op, ": no heads");
  TORCH_CHECK(channels >= 1 && channels <= kMaxChannels, op, ": a head must have 1 to ", kMaxChannels,
              " channels, got ", channels, "; the reference backend has no such limit");
  p.heads = int(heads);
  p.channels = int(channels);
}

// Positions: offsets in the sums' or the storage type, the reference in the sums' type.
void set_positions(const char* op, const OptionalTensor& given, const at::Tensor& offsets, at::ScalarType storage,
                   Problem& p, at::Tensor& kept_reference, at::Tensor& kept_offsets) {
  const at::ScalarType sums = sums_of(p.storage);
  const bool has_reference = given.has_value();
  TORCH_CHECK(offsets.scalar_type() == sums || (has_reference && offsets.scalar_type() == storage), op, ": ",
              has_reference ? "offsets" : "locations", " must be ", sums,
              has_reference && storage != sums ? " or the value's type" : "", ", got ", offsets.scalar_type());
  kept_offsets = offsets.contiguous();
  p.offsets = kept_offsets.data_ptr();
  p.offsets_in_storage = offsets.scalar_type() != sums;
  p.reference = nullptr;
  p.reference_stride = 0;
  if (!has_reference) return;
  const at::Tensor& reference = *given;
  TORCH_CHECK(reference.dim() == 3 && (reference.size(0) == p.batches || reference.size(0) == 1) &&
                  reference.size(1) == p.queries && reference.size(2) == 2,
              op, ": reference must be (", p.batches, " or 1, ", p.queries, ", 2), got ", reference.sizes());
  TORCH_CHECK(reference.scalar_type() == sums, op, ": reference must be ", sums, ", got ", reference.scalar_type());
  check_device(op, "reference", reference, offsets);
  kept_reference = reference.contiguous();
  // Never null, also without queries: null would mean that there is no reference.
  static const double nothing[2] = {};
  p.reference = kept_reference.numel() ? kept_reference.data_ptr() : static_cast<const void*>(nothing);
  p.reference_stride = reference.size(0) == 1 ? 0 : p.queries * 2;
}

// Kernels read whole vectors of what belongs to one token; slots and tokens may lie anywhere.
at::Tensor readable(const at::Tensor& t) {
  int64_t expected = 1;
  bool usable = reinterpret_cast<uintptr_t>(t.data_ptr()) % 16 == 0;
  for (int64_t d = t.dim() - 1; d >= 2; --d) {
    usable = usable && (t.stride(d) == expected || t.size(d) == 1);
    expected *= t.size(d);
  }
  usable = usable && t.stride(0) * t.element_size() % 16 == 0 && t.stride(1) * t.element_size() % 16 == 0;
  return usable ? t : t.contiguous();
}

// Kernels for a GPU read vectors of 16 bytes.
at::Tensor contiguous_vectors(const at::Tensor& t) {
  const at::Tensor whole = t.contiguous();
  return reinterpret_cast<uintptr_t>(whole.data_ptr()) % 16 == 0 ? whole : whole.clone();
}

}  // namespace

int64_t set_levels(const char* op, at::IntArrayRef level_shapes, int64_t points, Problem& p) {
  constexpr int64_t kMost = std::numeric_limits<int>::max();
  const int64_t levels = int64_t(level_shapes.size()) / 2;
  TORCH_CHECK(level_shapes.size() % 2 == 0 && levels >= 1 && levels <= kMaxLevels, op,
              ": level_shapes must be (height, width) of 1 to ", kMaxLevels, " levels, got ", level_shapes);
  TORCH_CHECK(points >= 1 && levels * points <= kMaxSamples, op, ": L * P must be 1 to ", kMaxSamples, ", got ", levels,
              " * ", points, "; the reference backend has no such limit");
  int64_t start = 0;
  for (int64_t level = 0; level < levels; ++level) {
    const int64_t height = level_shapes[2 * level], width = level_shapes[2 * level + 1];
    TORCH_CHECK(height > 0 && width > 0, op, ": level ", level, " has the shape (", height, ", ", width, ")");
    TORCH_CHECK(width <= kMost && height <= (kMost - start) / width, op, ": more than 2^31 tokens");
    p.height[level] = int(height);
    p.width[level] = int(width);
    p.start[level] = int(start);
    start += height * width;
  }
  p.levels = int(levels);
  p.points = int(points);
  return start;
}

MultiScaleInputs prepare_multi_scale(const at::Tensor& value, at::IntArrayRef level_shapes,
                                     const OptionalTensor& reference, const at::Tensor& offsets,
                                     const at::Tensor& weights) {
  const char* op = "multi_scale_deformable_attention";
  MultiScaleInputs in;
  MultiScale& p = in.args;
  p = MultiScale{};
  TORCH_CHECK(value.dim() == 4, op, ": value must be (B, S, M, D), got ", value.sizes());
  p.storage = storage_of(op, "value", value);
  in.sums = sums_of(p.storage);
  set_problem(op, level_shapes, value.size(1), offsets, p);
  set_heads(op, value.size(2), value.size(3), p);
  p.batches = value.size(0);
  p.queries = offsets.size(1);
  check_sizes(op, reference.has_value() ? "offsets" : "locations", offsets,
              {p.batches, p.queries, p.heads, p.levels, p.points, 2}, "(B, Q, M, L, P, 2)");
  check_sizes(op, reference.has_value() ? "logits" : "weights", weights,
              {p.batches, p.queries, p.heads, p.levels, p.points}, "(B, Q, M, L, P)");
  TORCH_CHECK(weights.scalar_type() == in.sums || weights.scalar_type() == value.scalar_type(), op,
              ": weights must be ", in.sums, " or the value's type, got ", weights.scalar_type());
  check_device(op, "locations or offsets", offsets, value);
  check_device(op, "weights", weights, value);
  set_positions(op, reference, offsets, value.scalar_type(), p, in.reference, in.offsets);
  in.value = readable(value);
  in.weights = weights.contiguous();
  p.value = in.value.data_ptr();
  p.batch_stride = in.value.stride(0);
  p.token_stride = in.value.stride(1);
  p.weights = in.weights.data_ptr();
  p.weights_in_storage = weights.scalar_type() != in.sums;
  return in;
}

KeyAwareInputs prepare_key_aware(const at::Tensor& query, const at::Tensor& key_value, at::IntArrayRef level_shapes,
                                 const OptionalTensor& reference, const at::Tensor& offsets, const at::Tensor& slots) {
  const char* op = "key_aware_deformable_attention";
  KeyAwareInputs in;
  KeyAware& p = in.args;
  p = KeyAware{};
  TORCH_CHECK(query.dim() == 4, op, ": query must be (F, N, M, D), got ", query.sizes());
  p.storage = storage_of(op, "query", query);
  in.sums = sums_of(p.storage);
  TORCH_CHECK(key_value.dim() == 5 && key_value.size(2) == query.size(2) && key_value.size(3) == 2 &&
                  key_value.size(4) == query.size(3),
              op, ": key_value must be (R, S, M, 2, D) with M, D = ", query.size(2), ", ", query.size(3), ", got ",
              key_value.sizes());
  TORCH_CHECK(key_value.scalar_type() == query.scalar_type(), op, ": key_value is ", key_value.scalar_type(),
              ", query is ", query.scalar_type(), "; they must be the same");
  set_problem(op, level_shapes, key_value.size(1), offsets, p);
  set_heads(op, query.size(2), query.size(3), p);
  p.batches = query.size(0);
  p.queries = query.size(1);
  p.ring = key_value.size(0);
  p.scale = 1.0 / std::sqrt(double(p.channels));
  check_sizes(op, reference.has_value() ? "offsets" : "locations", offsets,
              {p.batches, p.queries, p.heads, p.levels, p.points, 2}, "(F, N, M, L, P, 2)");
  check_sizes(op, "slots", slots, {p.batches}, "(F,)");
  TORCH_CHECK(slots.scalar_type() == at::kLong, op, ": slots must be int64, got ", slots.scalar_type());
  check_device(op, "key_value", key_value, query);
  check_device(op, "locations or offsets", offsets, query);
  check_device(op, "slots", slots, query);
  set_positions(op, reference, offsets, query.scalar_type(), p, in.reference, in.offsets);
  in.query = contiguous_vectors(query);
  in.key_value = readable(key_value);
  in.slots = slots.contiguous();
  p.query = in.query.data_ptr();
  p.key_value = in.key_value.data_ptr();
  p.slots = in.slots.data_ptr<int64_t>();
  p.batch_stride = in.key_value.stride(0);
  p.token_stride = in.key_value.stride(1);
  return in;
}

at::Tensor prepare_gradient(const char* op, const at::Tensor& grad, at::IntArrayRef sizes, at::ScalarType type,
                            const at::Tensor& like) {
  check_sizes(op, "the gradient", grad, sizes, "that of the output");
  TORCH_CHECK(grad.scalar_type() == type, op, ": the gradient must be ", type, ", got ", grad.scalar_type());
  check_device(op, "the gradient", grad, like);
  return contiguous_vectors(grad);
}

}  // namespace taptrv2
