// The fused convolution on the CPU: checks its arguments and spreads tiles over torch's threads.
#include <torch/library.h>

#include <algorithm>
#include <optional>

#include "packed.h"

namespace taptrv2 {
namespace {

constexpr const char* kOp = "convolve";

// weight: panels of the transformed weight, then the bias. Public: taptrv2_core/fast/conv.py.
at::Tensor convolve(const at::Tensor& images, const at::Tensor& weight, const std::optional<at::Tensor>& add,
                    int64_t outputs, bool relu) {
  TORCH_CHECK(images.dim() == 4, kOp, ": images must be (B, C, H, W)");
  const int64_t count = images.size(0), inputs = images.size(1), height = images.size(2), width = images.size(3);
  TORCH_CHECK(inputs % kPanel == 0 && outputs % kPanel == 0, kOp, ": channels must be multiples of ", kPanel);
  const bool half = images.scalar_type() == at::kBFloat16;
  const at::ScalarType type = half ? at::kBFloat16 : at::kFloat;
  check_last(kOp, "images", images, images.sizes(), type);
  const std::vector<int64_t> sizes = {count, outputs, height, width};
  if (add.has_value()) check_last(kOp, "add", *add, sizes, type);
  check(kOp, "weight", weight, {kProducts * inputs * outputs + outputs}, at::kFloat);
  at::Tensor result = at::empty(sizes, images.options().memory_format(at::MemoryFormat::ChannelsLast));
  Convolve p{};
  p.height = int(height), p.width = int(width), p.inputs = int(inputs), p.outputs = int(outputs);
  p.tile_columns = (p.width + kTile - 1) / kTile;
  p.given = images.data_ptr();
  p.add = add.has_value() ? add->data_ptr() : nullptr;
  p.weight = weight.data_ptr<float>();
  p.bias = p.weight + kProducts * inputs * outputs;
  p.relu = relu;
  p.result = result.data_ptr();
  const ConvolveKernels kernels = TAPTRV2_KERNELS(convolve_kernels, half ? Storage::bf16 : Storage::f32);
  const int64_t tiles = (height + kTile - 1) / kTile * p.tile_columns, threads = at::get_num_threads();
  const int64_t block = std::max<int64_t>(1, std::min<int64_t>(kMaxTiles, (tiles + threads - 1) / threads));
  const int64_t blocks = (tiles + block - 1) / block;
  const int64_t scratch = (kProducts + 1) * (block * (inputs + kPanel) + 2 * kPanel) + 4 * kPanel + inputs;
  spread(count * blocks, [&](int64_t i) {
    const int64_t first = i % blocks * block;
    kernels.convolve_tiles(p, i / blocks, int(first), int(std::min(block, tiles - first)), thread_scratch(scratch));
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(taptrv2, CPU, m) { m.impl("convolve", &convolve); }

}  // namespace taptrv2
