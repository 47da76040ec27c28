// The fused window on the CPU: checks its arguments and spreads its passes over torch's threads.
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <tuple>
#include <vector>

#include "packed.h"

namespace taptrv2 {
namespace {

constexpr const char* kOp = "decode_window";

// Layers whose inputs lie together by one or two.
struct ReadLayer {
  Reader& read;
  int together;
  Packed operator()(int inputs, int outputs) const { return read.packed(inputs / together, outputs); }
};

SharedWeights shared_weights(const ReadLayer& layer, int c) {
  SharedWeights w;
  w.reference[0] = layer(2 * c, c), w.reference[1] = layer(c, c);
  w.updater[0] = layer(2 * c, c), w.updater[1] = layer(c, c);
  w.fuser[0] = layer(2 * c, c), w.fuser[1] = layer(c, c), w.fuser[2] = layer(c, c);
  return w;
}

LayerWeights layer_weights(const ReadLayer& layer, const Window& p) {
  Reader& read = layer.read;
  const int c = p.channels, k = p.samples;
  LayerWeights w;
  w.offsets_and_query = layer(c, 2 * k + c);
  w.key = {read.vector(int64_t(c) * c / layer.together), nullptr, kPanel / layer.together, p.heads * c};
  w.key_bias = read.vector(c);
  w.value = layer(c, c), w.output = layer(c, c);
  w.norm_cross = read.norm(c);
  w.weights[0] = layer(k, c), w.weights[1] = layer(c, c), w.weights[2] = layer(c, k);
  w.position[0] = layer(2 * c, c), w.position[1] = layer(c, c);
  w.temporal_query_key = layer(c, 2 * c);
  w.temporal_value = layer(c, c), w.temporal_output = layer(c, c);
  w.norm_temporal = read.norm(c);
  w.query_key = layer(c, 2 * c);
  w.self_value = layer(c, c), w.self_output = layer(c, c);
  w.norm_self = read.norm(c);
  w.forward[0] = layer(c, p.feedforward), w.forward[1] = layer(p.feedforward, c);
  w.norm_forward = read.norm(c);
  w.box[0] = layer(c, c), w.box[1] = layer(c, c), w.box[2] = layer(c, 4);
  w.visible = layer(c, 3);
  return w;
}

// Floats of one thread's scratch for a block of `rows` pairs: the parts that the two passes take, and their rounding.
int64_t scratch_size(const Window& p, int64_t rows) {
  const int64_t c = p.channels, k = p.samples;
  const int64_t sampling = 16 * (2 * p.heads * c + p.heads + (p.heads + 1) * c / 2) + int64_t(kMaxSamples + 2) * c;
  const int64_t gather = rows * (6 * c + 3 * k + 6) + std::max(sampling, rows * (2 * c + k));
  const int64_t answer = rows * (5 * c + 4 + std::max<int64_t>(p.feedforward, p.padded_queries()));
  const int64_t rounded = rows * std::max<int64_t>(2 * c, p.feedforward) / 2;
  return std::max(gather, answer) + rounded + 20 * kPanel;
}

// Largest number of queries a task takes so that it has at most kMaxPairs pairs and every thread has a task.
int64_t share(int64_t queries, int64_t frames_of_task, int64_t tasks_beside) {
  const int64_t threads = at::get_num_threads();
  const int64_t most = std::max<int64_t>(1, kMaxPairs / frames_of_task);
  const int64_t wanted = (threads + tasks_beside - 1) / tasks_beside;
  return std::max<int64_t>(1, std::min(most, (queries + wanted - 1) / wanted));
}

// Whether what is kept of a pair was made of what it is now; if not, notes what it is now for what will be.
bool still_kept(const Window& p, int64_t pair) {
  const int64_t c = p.channels;
  float* kept = p.kept + pair * p.kept_row() + p.kept_made();
  const float *content = p.entry + pair * c, *reference = p.reference + pair * 4, updated = p.updated[pair];
  if (kept[c + 5] == 1 && std::memcmp(kept, content, c * sizeof(float)) == 0 &&
      std::memcmp(kept + c, reference, 4 * sizeof(float)) == 0 && kept[c + 4] == updated) {
    return true;
  }
  std::copy_n(content, c, kept);
  std::copy_n(reference, 4, kept + c);
  kept[c + 4] = updated, kept[c + 5] = 0;
  return false;
}

// Brings up to date what is kept of the first layer.
void keep(const Window& p, const WindowKernels& kernels) {
  std::vector<int> changed;
  for (int pair = 0; pair < p.frames * p.queries; ++pair) {
    if (!still_kept(p, pair)) changed.push_back(pair);
  }
  const int64_t count = changed.size(), block = share(count, 1, 1);
  spread((count + block - 1) / block, [&](int64_t i) {
    const int64_t first = i * block, rows = std::min<int64_t>(block, count - first);
    kernels.keep_pairs(p, changed.data() + first, int(rows), thread_scratch(scratch_size(p, block)));
  });
}

void run_layer(const Window& p, const WindowKernels& kernels) {
  if (p.first && p.kept) keep(p, kernels);
  const int64_t block = share(p.queries, p.frames, 1), blocks = (p.queries + block - 1) / block;
  spread(blocks, [&](int64_t i) {
    const int64_t first = i * block, count = std::min<int64_t>(block, p.queries - first);
    kernels.gather_layer(p, int(first), int(count), thread_scratch(scratch_size(p, block * p.frames)));
  });
  const int64_t frames = p.last ? p.answers : p.frames, begin = p.last ? p.wanted : 0;
  const int64_t part = share(p.queries, 1, frames), parts = (p.queries + part - 1) / part;
  spread(frames * parts, [&](int64_t i) {
    const int64_t first = i % parts * part, count = std::min<int64_t>(part, p.queries - first);
    kernels.answer_layer(p, int(begin + i / parts), int(first), int(count), thread_scratch(scratch_size(p, part)));
  });
}

// Each frame's memory; returns its type.
Storage set_memories(Window& p, at::TensorList memories, int64_t tokens) {
  TORCH_CHECK(int64_t(memories.size()) == p.frames, kOp, ": ", p.frames, " frames, but memory of ", memories.size());
  const at::ScalarType type = memories[0].scalar_type();
  TORCH_CHECK(type == at::kFloat || type == at::kBFloat16, kOp, ": memory must be float32 or bfloat16, got ", type);
  for (size_t f = 0; f < memories.size(); ++f) {
    check(kOp, "a frame's memory", memories[f], {tokens, p.channels}, type);
    p.memory[f] = memories[f].data_ptr();
  }
  return type == at::kFloat ? Storage::f32 : Storage::bf16;
}

using Answer = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

// sizes: heads, points a level and head, layers, channels of the feed-forward, inputs of a layer that lie together (1,
// or 2 in bfloat16). Public: taptrv2_core/fast/decoder.py.
Answer decode_window(const at::Tensor& content, const at::Tensor& reference, at::TensorList memories,
                     at::IntArrayRef level_shapes, const at::Tensor& updated, const OptionalTensor& tracked,
                     int64_t wanted, const OptionalTensor& kept, const at::Tensor& waves, const at::Tensor& parameters,
                     at::IntArrayRef sizes) {
  TORCH_CHECK(content.dim() == 3 && sizes.size() == 5, kOp, ": content must be (F, N, C) and sizes have 5 entries");
  const int64_t frames = content.size(0), queries = content.size(1), channels = content.size(2), layers = sizes[2];
  TORCH_CHECK(frames >= 1 && frames <= kMaxFrames && wanted < frames, kOp, ": frames must be 1 to ", kMaxFrames,
              " and the one wanted among them, got ", frames, " and ", wanted);
  TORCH_CHECK(sizes[0] * kPanel == channels && layers >= 1, kOp, ": heads must have ", kPanel, " channels");
  Window p{};
  p.frames = int(frames), p.queries = int(queries), p.channels = int(channels);
  p.heads = int(sizes[0]), p.feedforward = int(sizes[3]);
  const int64_t tokens = set_levels(kOp, level_shapes, sizes[1], p.levels);
  const Storage storage = set_memories(p, memories, tokens);
  p.scale = 1 / std::sqrt(float(kPanel));
  p.samples = int(sizes[0] * p.levels.levels * sizes[1]);
  TORCH_CHECK(p.samples % kPanel == 0 && p.feedforward % kPanel == 0, kOp, ": M * L * P and the feed-forward must be ",
              "multiples of ", kPanel);
  check(kOp, "content", content, {frames, queries, channels}, at::kFloat);
  check(kOp, "reference", reference, {frames, queries, 4}, at::kFloat);
  check(kOp, "updated", updated, {frames, queries}, at::kBool);
  check(kOp, "waves", waves, {2, channels / 2}, at::kFloat);
  check(kOp, "parameters", parameters, {parameters.numel()}, at::kFloat);
  if (tracked.has_value()) check(kOp, "tracked", *tracked, {frames, queries}, at::kBool);

  const std::vector<int64_t> kept_sizes = {frames, queries, p.kept_row()};
  if (kept.has_value()) check(kOp, "kept", *kept, kept_sizes, at::kFloat);

  p.kept = kept.has_value() ? kept->data_ptr<float>() : nullptr;
  p.updated = static_cast<const uint8_t*>(updated.data_ptr());
  p.tracked = tracked.has_value() ? static_cast<const uint8_t*>(tracked->data_ptr()) : nullptr;
  p.waves[0] = waves.data_ptr<float>();
  p.waves[1] = p.waves[0] + channels / 2;
  p.wanted = int(std::max<int64_t>(wanted, 0));
  p.answers = wanted < 0 ? p.frames : 1;
  const auto options = content.options();
  at::Tensor hidden = content.clone(), boxes = reference.clone();  // both are written in place
  at::Tensor visibility = at::empty({frames, queries, 3}, options), moved = at::empty({frames, queries, 2}, options);
  at::Tensor query = at::empty(content.sizes(), options), value = at::empty(content.sizes(), options);
  at::Tensor key = at::zeros({frames * p.heads * p.padded_queries() * kPanel}, options);
  at::Tensor work = content.clone();
  p.entry = content.data_ptr<float>();
  p.content = work.data_ptr<float>();
  p.reference = boxes.data_ptr<float>();
  p.moved = moved.data_ptr<float>();
  p.query = query.data_ptr<float>(), p.key = key.data_ptr<float>(), p.value = value.data_ptr<float>();
  p.visibility = visibility.data_ptr<float>();
  p.hidden = hidden.data_ptr<float>();

  Reader read(kOp, parameters);
  const int together = int(sizes[4]);
  TORCH_CHECK(together == 1 || (together == 2 && storage == Storage::bf16), kOp,
              ": weights are floats, or pairs in bfloat16 as memory, got ", together, " together");
  const ReadLayer layer{read, together};
  const WindowKernels kernels = TAPTRV2_KERNELS(window_kernels, storage, together == 2);
  p.shared = shared_weights(layer, p.channels);
  for (int64_t i = 0; i < layers; ++i) {
    p.layer = layer_weights(layer, p);
    p.first = i == 0, p.last = i == layers - 1;
    if (queries > 0) run_layer(p, kernels);
  }
  read.finish();
  const int64_t from = p.wanted, to = p.wanted + p.answers;
  return {moved.slice(0, from, to), boxes.slice(0, from, to), visibility.slice(0, from, to), hidden.slice(0, from, to)};
}

}  // namespace

TORCH_LIBRARY_IMPL(taptrv2, CPU, m) { m.impl("decode_window", &decode_window); }

}  // namespace taptrv2
