// The reduction of an image on the CPU: what is averaged, and rows spread over torch's threads.
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "packed.h"

namespace taptrv2 {
namespace {

constexpr const char* kOp = "shrink";

// Result i is the average over [i, i + 1) * length / results, pixels at the ends with the share that is inside.
struct Line {
  std::vector<int> first, count;
  std::vector<float> weights;
  int most;

  Line(int64_t length, int64_t results) : most(int((length + results - 1) / results + 1)) {
    const double scale = double(length) / double(results);
    weights.resize(results * most);
    for (int64_t i = 0; i < results; ++i) {
      const double begin = i * scale, end = std::min((i + 1) * scale, double(length));
      first.push_back(int(begin));
      count.push_back(0);
      for (int k = int(begin); k < int(std::ceil(end - 1e-6)) && count[i] < most; ++k) {
        weights[i * most + count[i]++] = float((std::min(end, k + 1.0) - std::max(begin, double(k))) / scale);
      }
    }
  }
  Averages averages() const { return {first.data(), count.data(), weights.data(), most}; }
};

// Public: taptrv2_core/images.py.
at::Tensor shrink(const at::Tensor& image, int64_t height, int64_t width) {
  TORCH_CHECK(image.dim() == 3, kOp, ": image must be (H, W, 3)");
  check(kOp, "image", image, {image.size(0), image.size(1), 3}, at::kByte);
  TORCH_CHECK(height >= 1 && width >= 1 && height <= image.size(0) && width <= image.size(1), kOp,
              ": the size must be from 1 x 1 to the image's, got ", height, " x ", width);
  at::Tensor result = at::empty({height, width, 3}, image.options().dtype(at::kFloat));
  const Line down(image.size(0), height), across(image.size(1), width);
  Shrink p{};
  p.width = int(image.size(1)), p.results = int(width);
  p.given = image.data_ptr<uint8_t>();
  p.result = result.data_ptr<float>();
  p.down = down.averages(), p.across = across.averages();
  const ShrinkKernels kernels = TAPTRV2_KERNELS(shrink_kernels);
  at::parallel_for(0, height, 16, [&](int64_t first, int64_t last) {
    kernels.shrink_rows(p, int(first), int(last), thread_scratch(3 * (image.size(1) + width) + 8));
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(taptrv2, CPU, m) { m.impl("shrink", &shrink); }

}  // namespace taptrv2
