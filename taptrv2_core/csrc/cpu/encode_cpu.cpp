// The fused encoder layer on the CPU: checks its arguments and spreads its passes over torch's threads.
#include <torch/library.h>

#include <algorithm>

#include "packed.h"

namespace taptrv2 {
namespace {

constexpr const char* kOp = "encode_layer";

void set_weights(Encode& p, const at::Tensor& parameters, Storage storage) {
  const int c = p.channels, together = storage == Storage::bf16 ? 2 : 1;
  Reader read(kOp, parameters);
  const auto layer = [&](int inputs, int outputs) { return read.packed(inputs / together, outputs); };
  p.value_layer = layer(c, c);
  p.offsets_and_logits = layer(c, 3 * p.samples);
  p.output = layer(c, c);
  p.norm_attention = read.norm(c);
  p.forward[0] = layer(c, p.feedforward), p.forward[1] = layer(p.feedforward, c);
  p.norm_forward = read.norm(c);
  read.finish();
}

void run(const Encode& p, int64_t images, Storage storage) {
  const EncodeKernels kernels = TAPTRV2_KERNELS(encode_kernels, storage);
  const int64_t blocks = (p.tokens + kMaxPairs - 1) / kMaxPairs;
  const auto each = [&](auto work) {
    spread(images * blocks, [&](int64_t i) {
      const int64_t first = i % blocks * kMaxPairs;
      work(i / blocks * p.tokens, first, int(std::min<int64_t>(kMaxPairs, p.tokens - first)));
    });
  };
  const int64_t scratch = int64_t(kMaxPairs) * (3 * p.channels + 3 * p.samples + 2 * p.feedforward);
  each([&](int64_t image, int64_t first, int count) {
    kernels.encode_values(p, image + first, count, thread_scratch(scratch));
  });
  each([&](int64_t image, int64_t first, int count) {
    kernels.encode_tokens(p, image, first, count, thread_scratch(scratch));
  });
}

// sizes: heads, points a level and head, channels of the feed-forward. Public: taptrv2_core/fast/encoder.py.
at::Tensor encode_layer(const at::Tensor& tokens, const at::Tensor& code, const at::Tensor& reference,
                        at::IntArrayRef level_shapes, const at::Tensor& parameters, at::IntArrayRef sizes) {
  TORCH_CHECK(tokens.dim() == 3 && sizes.size() == 3, kOp, ": tokens must be (B, S, C) and sizes have 3 entries");
  Encode p{};
  p.channels = int(tokens.size(2)), p.heads = int(sizes[0]), p.feedforward = int(sizes[2]);
  TORCH_CHECK(p.heads * kPanel == p.channels, kOp, ": heads must have ", kPanel, " channels");
  p.tokens = set_levels(kOp, level_shapes, sizes[1], p.levels);
  p.samples = p.heads * p.levels.levels * p.levels.points;
  TORCH_CHECK(p.samples % kPanel == 0 && p.feedforward % kPanel == 0, kOp,
              ": M * L * P and the feed-forward must be multiples of ", kPanel);
  const bool half = tokens.scalar_type() == at::kBFloat16;
  const at::ScalarType type = half ? at::kBFloat16 : at::kFloat;
  const Storage storage = half ? Storage::bf16 : Storage::f32;
  check(kOp, "tokens", tokens, {tokens.size(0), p.tokens, p.channels}, type);
  check(kOp, "code", code, {p.tokens, p.channels}, type);
  check(kOp, "reference", reference, {p.tokens, 2}, at::kFloat);
  check(kOp, "parameters", parameters, {parameters.numel()}, at::kFloat);
  set_weights(p, parameters, storage);
  at::Tensor value = at::empty_like(tokens), result = at::empty_like(tokens);
  p.given = tokens.data_ptr();
  p.code = code.data_ptr();
  p.reference = reference.data_ptr<float>();
  p.value = value.data_ptr();
  p.result = result.data_ptr();
  run(p, tokens.size(0), storage);
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(taptrv2, CPU, m) { m.impl("encode_layer", &encode_layer); }

}  // namespace taptrv2
