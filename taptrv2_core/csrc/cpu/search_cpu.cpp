// The fused search on the CPU: checks its arguments, and spreads cells, then queries, over torch's threads.
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "packed.h"

namespace taptrv2 {
namespace {

// As torch's linear interpolation without aligned corners.
class Enlarging {
 public:
  Enlarging(int before, int after) {
    const float scale = float(before) / float(after);
    for (int i = 0; i < after; ++i) {
      const float at = std::max(scale * (float(i) + 0.5f) - 0.5f, 0.0f);
      first_.push_back(std::min(int(at), before - 1));
      second_.push_back(std::min(first_[i] + 1, before - 1));
      share_.push_back(std::min(at - float(first_[i]), 1.0f));
    }
  }
  Between between() const { return {first_.data(), second_.data(), share_.data()}; }

 private:
  std::vector<int> first_, second_;
  std::vector<float> share_;
};

// Queries (N, inputs), of floats or of pairs of bfloat16, as panels; zero beyond the last.
template <typename Input>
void pack(const Input* queries, int count, int columns, int inputs, Input* panels) {
  for (int first = 0; first < columns; first += kPanel) {
    const int inside = std::min(count - first, kPanel);
    for (int k = 0; k < inputs; ++k, panels += kPanel) {
      for (int i = 0; i < inside; ++i) panels[i] = queries[int64_t(first + i) * inputs + k];
      std::fill(panels + inside, panels + kPanel, Input{});
    }
  }
}

// What both ops are asked, and the memory they work in.
class Asked {
 public:
  Asked(const char* op, const at::Tensor& tokens, at::IntArrayRef level_shapes, at::TensorList queries,
        const at::Tensor& nowhere, const at::Tensor& position, bool halved)
      : half_(tokens.scalar_type() == at::kBFloat16) {
    check_all(op, tokens, level_shapes, queries, nowhere, position);
    p.channels = int(tokens.size(2)), p.queries = int(position.size(1));
    p.columns = int(padded(p.queries));
    p.position = position.data_ptr<float>();
    set_levels(tokens, level_shapes, halved);
    set_queries(queries);
    set_nowhere(nowhere.data_ptr<float>(), halved ? std::log(4.0f) : 0.0f);
    logits_ = at::empty({rows_, p.columns}, nowhere.options());
    p.logits = logits_.data_ptr<float>();
  }

  // Calls finish(kernels, query, scratch) for the first query of each group of lanes.
  template <typename Finish>
  void run(Finish finish) const {
    const SearchKernels kernels = TAPTRV2_KERNELS(search_kernels, half_ ? Storage::bf16 : Storage::f32);
    std::vector<Part> parts = parts_of_levels();
    spread(int64_t(parts.size()), [&](int64_t i) {
      const Part& part = parts[i];
      const SearchLevel& level = p.level[part.level];
      kernels.search_logits(p, level, part.first, part.count, thread_scratch(int64_t(kMaxPairs) * p.channels));
    });
    spread((p.queries + kernels.lanes - 1) / kernels.lanes, [&](int64_t i) {
      finish(kernels, int(i) * kernels.lanes, thread_scratch(int64_t(p.cells() + longest_row_) * kernels.lanes));
    });
  }

  Search p{};

 private:
  struct Part {
    int level, first, count;
  };

  void check_all(const char* op, const at::Tensor& tokens, at::IntArrayRef level_shapes, at::TensorList queries,
                 const at::Tensor& nowhere, const at::Tensor& position) {
    Problem levels{};
    const int64_t cells = taptrv2::set_levels(op, level_shapes, 1, levels);
    const at::ScalarType type = half_ ? at::kBFloat16 : at::kFloat;
    TORCH_CHECK(tokens.dim() == 3 && tokens.size(2) % kPanel == 0 && position.dim() == 3, op,
                ": tokens must be (1, S, C), C a multiple of ", kPanel, ", and position (1, N, 2)");
    TORCH_CHECK(int64_t(queries.size()) == levels.levels, op, ": queries must be one tensor a level");
    const int64_t count = position.size(1), channels = tokens.size(2);
    check(op, "tokens", tokens, {1, cells, channels}, type);
    for (const at::Tensor& query : queries) check(op, "queries", query, {1, count, channels}, type);
    check(op, "nowhere", nowhere, {1, count, 1}, at::kFloat);
    check(op, "position", position, {1, count, 2}, at::kFloat);
  }

  void set_levels(const at::Tensor& tokens, at::IntArrayRef shapes, bool halved) {
    p.levels = int(shapes.size() / 2);
    const char* given = static_cast<const char*>(tokens.data_ptr());
    for (int l = 0; l < p.levels; ++l) {
      SearchLevel& level = p.level[l];
      level.given = given;
      level.given_height = int(shapes[2 * l]), level.given_width = int(shapes[2 * l + 1]);
      given += int64_t(level.given_height) * level.given_width * p.channels * tokens.element_size();
      level.halved = halved && l == 0;
      level.height = level.halved ? (level.given_height + 1) / 2 : level.given_height;
      level.width = level.halved ? (level.given_width + 1) / 2 : level.given_width;
      level.start = rows_;
      rows_ += level.height * level.width;
      longest_row_ = std::max(longest_row_, level.width);
    }
    enlarging_.reserve(2 * p.levels);
    for (int l = 0; l < p.levels; ++l) {
      SearchLevel& level = p.level[l];
      level.down = enlarging_.emplace_back(level.height, p.level[0].height).between();
      level.across = enlarging_.emplace_back(level.width, p.level[0].width).between();
    }
  }

  void set_queries(at::TensorList queries) {
    const int inputs = half_ ? p.channels / 2 : p.channels;
    const int64_t size = int64_t(inputs) * p.columns;
    panels_ = at::empty({p.levels * size + p.columns}, at::kFloat);
    float* next = panels_.data_ptr<float>();
    const float* bias = std::fill_n(next, p.columns, 0.0f) - p.columns;
    next += p.columns;
    for (int l = 0; l < p.levels; ++l, next += size) {
      pack(static_cast<const float*>(queries[l].data_ptr()), p.queries, p.columns, inputs, next);
      p.level[l].queries = {next, bias, inputs, p.columns};
    }
  }

  // A halved level has a quarter of the cells; what is nowhere loses as much.
  void set_nowhere(const float* logits, float less) {
    nowhere_.assign(p.columns, 0.0f);
    for (int i = 0; i < p.queries; ++i) nowhere_[i] = logits[i] - less;
    p.nowhere = nowhere_.data();
  }

  // Every other part first, then those between them: cells that are halved are more work, and threads get parts one
  // after another.
  std::vector<Part> parts_of_levels() const {
    std::vector<Part> parts, ordered;
    for (int l = 0; l < p.levels; ++l) {
      const int cells = p.level[l].height * p.level[l].width;
      for (int first = 0; first < cells; first += kMaxPairs) {
        parts.push_back({l, first, std::min(kMaxPairs, cells - first)});
      }
    }
    for (size_t begin : {0, 1}) {
      for (size_t i = begin; i < parts.size(); i += 2) ordered.push_back(parts[i]);
    }
    return ordered;
  }

  bool half_;
  int rows_ = 0, longest_row_ = 0;
  std::vector<Enlarging> enlarging_;
  std::vector<float> nowhere_;
  at::Tensor panels_, logits_;
};

// Public, both: taptrv2_core/fast/search.py.
at::Tensor search_agreement(const at::Tensor& tokens, at::IntArrayRef level_shapes, at::TensorList queries,
                            const at::Tensor& nowhere, const at::Tensor& position, double least) {
  Asked asked("search_agreement", tokens, level_shapes, queries, nowhere, position, true);
  at::Tensor result = at::empty({1, position.size(1), 1}, position.options());
  const Limits limits{float(least), 0, 0};
  asked.run([&](const SearchKernels& kernels, int query, float* scratch) {
    kernels.search_agreement(asked.p, limits, query, scratch, result.data_ptr<float>());
  });
  return result;
}

at::Tensor search_find(const at::Tensor& tokens, at::IntArrayRef level_shapes, at::TensorList queries,
                       const at::Tensor& nowhere, const at::Tensor& position, double sure, double better) {
  Asked asked("search_find", tokens, level_shapes, queries, nowhere, position, false);
  at::Tensor result = at::empty_like(position);
  const Limits limits{0, float(sure), float(better)};
  asked.run([&](const SearchKernels& kernels, int query, float* scratch) {
    kernels.search_find(asked.p, limits, query, scratch, result.data_ptr<float>());
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(taptrv2, CPU, m) {
  m.impl("search_agreement", &search_agreement);
  m.impl("search_find", &search_find);
}

}  // namespace taptrv2
