// The refiner on the CPU: points spread over torch's threads.
#include <torch/library.h>

#include <tuple>

#include "packed.h"

namespace taptrv2 {
namespace {

constexpr const char* kOp = "refine";

// Public: taptrv2_core/fast/refine.py.
std::tuple<at::Tensor, at::Tensor> refine(const at::Tensor& image, const at::Tensor& xy, const at::Tensor& rows,
                                          const at::Tensor& features, const at::Tensor& weight,
                                          const at::Tensor& contrast, const at::Tensor& parameters) {
  TORCH_CHECK(image.dim() == 2 && image.size(0) >= 2 && image.size(1) >= 2, kOp,
              ": image must be (H, W), at least 2 x 2, got ", image.sizes());
  TORCH_CHECK(xy.dim() == 2 && features.dim() == 4, kOp, ": xy must be (N, 2), features (M, C, H, W)");
  const int64_t count = xy.size(0), kept = features.size(0);
  check(kOp, "image", image, image.sizes(), at::kByte);
  check(kOp, "xy", xy, {count, 2}, at::kFloat);
  check(kOp, "rows", rows, {count}, at::kLong);
  check(kOp, "features", features, {kept, kFeatures, kCells, kCells}, at::kFloat);
  check(kOp, "weight", weight, {kept, 1, kCells, kCells}, at::kFloat);
  check(kOp, "contrast", contrast, {kept}, at::kFloat);
  check(kOp, "parameters", parameters, {parameters.numel()}, at::kFloat);
  Refine p{};
  p.height = int(image.size(0)), p.width = int(image.size(1));
  p.image = image.data_ptr<uint8_t>();
  p.xy = xy.data_ptr<float>();
  p.rows = rows.data_ptr<int64_t>();
  for (int64_t i = 0; i < count; ++i) {
    TORCH_CHECK(p.rows[i] >= 0 && p.rows[i] < kept, kOp, ": rows[", i, "] is ", p.rows[i], ", of ", kept);
  }
  p.features = features.data_ptr<float>();
  p.weight = weight.data_ptr<float>();
  p.contrast = contrast.data_ptr<float>();
  Reader reader(kOp, parameters);
  const auto layer = [&](int taps, int outputs) {
    const float* weights = reader.vector(taps * outputs);
    return RefineLayer{weights, reader.vector(outputs)};
  };
  p.patch = layer(25, kHidden), p.hidden = layer(9 * kHidden, kFeatures), p.context = layer(36, kFeatures);
  p.doubt = reader.vector(kFeatures + 1), p.damping = reader.vector(1);
  p.spread[0] = reader.packed(kSpreadInputs, kPanel);
  p.spread[1] = reader.packed(kPanel, kPanel), p.spread[2] = reader.packed(kPanel, 1);
  reader.finish();
  at::Tensor offset = at::empty_like(xy), spread = at::empty({count}, xy.options());
  p.offset = offset.data_ptr<float>(), p.result = spread.data_ptr<float>();
  const RefineKernels kernels = TAPTRV2_KERNELS(refine_kernels);
  at::parallel_for(0, count, 1, [&](int64_t first, int64_t last) {
    kernels.refine_points(p, first, last, thread_scratch(kRefineScratch));
  });
  return {offset, spread};
}

}  // namespace

TORCH_LIBRARY_IMPL(taptrv2, CPU, m) { m.impl("refine", &refine); }

}  // namespace taptrv2
