// The fused input projections on the CPU: checks their arguments and spreads cells over torch's threads.
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "packed.h"

namespace taptrv2 {
namespace {

constexpr const char* kOp = "project_levels";
constexpr double kEps = 1e-5;

// Cells that go through a layer together.
struct Part {
  int64_t image, level, first;
  int count;
};

std::vector<Part> parts_of(const std::vector<ProjectLevel>& levels, int64_t images) {
  std::vector<Part> parts;
  for (int64_t image = 0; image < images; ++image) {
    for (size_t level = 0; level < levels.size(); ++level) {
      for (int64_t first = 0; first < levels[level].cells; first += kMaxPairs) {
        const int64_t left = levels[level].cells - first;
        parts.push_back({image, int64_t(level), first, int(std::min<int64_t>(kMaxPairs, left))});
      }
    }
  }
  return parts;
}

// Scale and shift (2, C) of a level's channels, from the sums (2, C) of its parts, which are added.
void set_scale(const ProjectLevel& level, int64_t channels, int64_t groups, const std::vector<double>& sums,
               float* scale) {
  const int64_t together = channels / groups;
  for (int64_t begin = 0; begin < channels; begin += together) {
    double sum = 0, squares = 0;
    for (int64_t c = begin; c < begin + together; ++c) sum += sums[c], squares += sums[channels + c];
    const double count = double(level.cells * together), mean = sum / count;
    const double variance = std::max(squares / count - mean * mean, 0.0);
    for (int64_t c = begin; c < begin + together; ++c) {
      scale[c] = float(level.norm.weight[c] / std::sqrt(variance + kEps));
      scale[channels + c] = float(level.norm.bias[c] - mean * scale[c]);
    }
  }
}

void run(const Project& p, const std::vector<ProjectLevel>& levels, int64_t images, int64_t groups, Storage storage) {
  const ProjectKernels kernels = TAPTRV2_KERNELS(project_kernels, storage);
  const std::vector<Part> parts = parts_of(levels, images);
  const int64_t row = 2 * p.channels, count = int64_t(parts.size());
  std::vector<float> sums(count * row), scales(images * levels.size() * row);
  spread(count, [&](int64_t i) {
    const Part& part = parts[i];
    kernels.project_cells(p, levels[part.level], part.image, part.first, part.count, sums.data() + i * row);
  });
  const auto scale_of = [&](const Part& part) {
    return scales.data() + (part.image * int64_t(levels.size()) + part.level) * row;
  };
  std::vector<double> total(row);
  for (int64_t i = 0; i < count; ++i) {
    const Part& part = parts[i];
    if (part.first == 0) std::fill(total.begin(), total.end(), 0.0);
    for (int64_t c = 0; c < row; ++c) total[c] += sums[i * row + c];
    const bool whole = part.first + part.count == levels[part.level].cells;
    if (whole) set_scale(levels[part.level], p.channels, groups, total, scale_of(part));
  }
  spread(count, [&](int64_t i) {
    const Part& part = parts[i];
    kernels.normalise_cells(p, levels[part.level], part.image, part.first, part.count, scale_of(part));
  });
}

// Public: taptrv2_core/fast/projection.py.
at::Tensor project_levels(at::TensorList features, int64_t channels, int64_t groups, const at::Tensor& parameters) {
  TORCH_CHECK(!features.empty() && features[0].dim() == 4, kOp, ": levels must be (B, inputs, H, W)");
  TORCH_CHECK(channels % kPanel == 0 && groups >= 1 && channels % groups == 0, kOp, ": channels must be a multiple of ",
              kPanel, " and of the groups");
  check(kOp, "parameters", parameters, {parameters.numel()}, at::kFloat);
  const int64_t images = features[0].size(0);
  const bool half = features[0].scalar_type() == at::kBFloat16;
  Project p{};
  p.channels = int(channels);
  Reader read(kOp, parameters);
  std::vector<ProjectLevel> levels;
  for (const at::Tensor& level : features) {
    TORCH_CHECK(level.dim() == 4 && level.size(0) == images && level.size(1) % kPanel == 0, kOp,
                ": levels must be (B, inputs, H, W), inputs a multiple of ", kPanel, ", got ", level.sizes());
    check_last(kOp, "a level", level, level.sizes(), half ? at::kBFloat16 : at::kFloat);
    const int inputs = int(level.size(1));
    const Packed layer = read.packed(half ? inputs / 2 : inputs, p.channels);
    levels.push_back({level.data_ptr(), level.size(2) * level.size(3), p.tokens, inputs, layer, read.norm(p.channels)});
    p.tokens += levels.back().cells;
  }
  read.finish();
  at::Tensor projected = at::empty({images, p.tokens, channels}, features[0].options().dtype(at::kFloat));
  at::Tensor result = half ? at::empty(projected.sizes(), features[0].options()) : projected;
  p.projected = projected.data_ptr<float>();
  p.result = result.data_ptr();
  run(p, levels, images, groups, half ? Storage::bf16 : Storage::f32);
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(taptrv2, CPU, m) { m.impl("project_levels", &project_levels); }

}  // namespace taptrv2
