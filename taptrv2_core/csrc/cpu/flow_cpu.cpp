// Optical flow on the CPU: pyramids of images, and points spread over torch's threads.
#include <torch/library.h>

#include <algorithm>
#include <tuple>

#include "packed.h"

namespace taptrv2 {
namespace {

// The levels of a pyramid in a buffer; returns how many pixels that has.
int64_t lay_out(int64_t height, int64_t width, int16_t* buffer, FlowPyramid& p) {
  p.levels = 0;
  int64_t next = 0;
  for (; p.levels < kFlowLevels && height > kFlowWindow && width > kFlowWindow; ++p.levels) {
    const int64_t stride = width + kFlowLine;
    p.level[p.levels] = {buffer + next + kFlowBorder * (stride + 1), int(width), int(height), int(stride)};
    next += (height + 2 * kFlowBorder) * stride;
    height = (height + 1) / 2, width = (width + 1) / 2;
  }
  return next;
}

// Pixels beside the image, reflected as far as windows reach.
void fill_ends(const FlowLevel& image, int y) {
  int16_t* row = image.pixels + int64_t(y) * image.stride;
  int16_t* last = row + image.width - 1;
  for (int i = 1; i <= kFlowWindow; ++i) row[-i] = row[i], last[i] = last[-i];
  row[-kFlowBorder] = 0;
  std::fill(last + kFlowBorder, row + image.stride - kFlowBorder, int16_t(0));
}

// Rows above and below it, likewise.
void fill_rows_outside(const FlowLevel& image) {
  const auto row = [&](int y) { return image.pixels + int64_t(y) * image.stride - kFlowBorder; };
  const int last = image.height - 1;
  for (int i = 1; i <= kFlowWindow; ++i) {
    std::copy_n(row(i), image.stride, row(-i));
    std::copy_n(row(last - i), image.stride, row(last + i));
  }
  std::fill_n(row(-kFlowBorder), image.stride, int16_t(0));
  std::fill_n(row(last + kFlowBorder), image.stride, int16_t(0));
}

void check_size(int64_t height, int64_t width) {
  constexpr int64_t kMost = 1 << 20;
  TORCH_CHECK(height > kFlowWindow && width > kFlowWindow && height <= kMost && width <= kMost,
              "flow: sides of an image must be ", kFlowWindow + 1, " to ", kMost, " pixels, got ", height, " x ",
              width);
}

// Public, both: taptrv2_core/fast/flow.py.
at::Tensor flow_pyramid(const at::Tensor& image) {
  TORCH_CHECK(image.dim() == 2, "flow_pyramid: image must be (H, W)");
  check_size(image.size(0), image.size(1));
  check("flow_pyramid", "image", image, image.sizes(), at::kByte);
  FlowPyramid p;
  at::Tensor result = at::empty({lay_out(image.size(0), image.size(1), nullptr, p)}, image.options().dtype(at::kShort));
  lay_out(image.size(0), image.size(1), result.data_ptr<int16_t>(), p);
  const FlowKernels kernels = TAPTRV2_KERNELS(flow_kernels);
  const uint8_t* given = image.data_ptr<uint8_t>();
  for (int l = 0; l < p.levels; ++l) {
    const FlowLevel& level = p.level[l];
    at::parallel_for(0, level.height, 16, [&](int64_t first, int64_t last) {
      if (l > 0) {
        float* scratch = thread_scratch(2 * (level.width + 64));
        kernels.halve_rows(p.level[l - 1], level, int(first), int(last), reinterpret_cast<int32_t*>(scratch));
      }
      for (int64_t y = first; y < last; ++y) {
        if (l == 0) std::copy_n(given + y * level.width, level.width, level.pixels + y * level.stride);
        fill_ends(level, int(y));
      }
    });
    fill_rows_outside(level);
  }
  return result;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> flow(const at::Tensor& before, const at::Tensor& after, int64_t height,
                                                    int64_t width, const at::Tensor& xy) {
  check_size(height, width);
  TORCH_CHECK(xy.dim() == 2, "flow: xy must be (N, 2)");
  Flow p{};
  const int64_t size = lay_out(height, width, nullptr, p.before);
  check("flow", "before", before, {size}, at::kShort);
  check("flow", "after", after, {size}, at::kShort);
  check("flow", "xy", xy, {xy.size(0), 2}, at::kFloat);
  lay_out(height, width, before.data_ptr<int16_t>(), p.before);
  lay_out(height, width, after.data_ptr<int16_t>(), p.after);
  at::Tensor moved = at::empty_like(xy), returned = at::empty_like(xy);
  at::Tensor found = at::empty({xy.size(0)}, xy.options().dtype(at::kBool));
  p.xy = xy.data_ptr<float>();
  p.moved = moved.data_ptr<float>(), p.returned = returned.data_ptr<float>();
  p.found = found.data_ptr<bool>();
  const FlowKernels kernels = TAPTRV2_KERNELS(flow_kernels);
  at::parallel_for(0, xy.size(0), 1, [&](int64_t first, int64_t last) { kernels.flow_points(p, first, last); });
  return {moved, returned, found};
}

}  // namespace

TORCH_LIBRARY_IMPL(taptrv2, CPU, m) {
  m.impl("flow_pyramid", &flow_pyramid);
  m.impl("flow", &flow);
}

}  // namespace taptrv2
