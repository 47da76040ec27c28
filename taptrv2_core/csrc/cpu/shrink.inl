// An image reduced by averaging areas. Included inside namespace taptrv2::<instruction set>.

// Rows [first, last) of the result, as OpenCV rounds them: to whole numbers, halves to even. Scratch: one row of pixels
// and a few floats more, and one of results.
inline void shrink_rows(const Shrink& p, int first, int last, float* memory) {
  using Four = Vector<float, 4>;  // of one pixel and one number that is not used
  const int line = 3 * p.width;
  float* sums = memory;
  float* means = memory + line + 4;
  for (int row = first; row < last; ++row) {
    for (int k = 0; k < p.down.count[row]; ++k) {
      const uint8_t* from = p.given + int64_t(p.down.first[row] + k) * line;
      const float weight = p.down.weights[row * p.down.most + k];
      if (k == 0) {
        for (int i = 0; i < line; ++i) sums[i] = weight * float(from[i]);
      } else {
        for (int i = 0; i < line; ++i) sums[i] += weight * float(from[i]);
      }
    }
    for (int i = 0; i < p.results; ++i) {
      const float* from = sums + 3 * p.across.first[i];
      const float* weights = p.across.weights + int64_t(i) * p.across.most;
      Four mean = {};
      for (int k = 0; k < p.across.count[i]; ++k) mean += load<4>(from + 3 * k) * weights[k];
      __builtin_memcpy(means + 3 * i, &mean, sizeof mean);
    }
    float* to = p.result + int64_t(row) * p.results * 3;
    constexpr float kWhole = 12582912.0f;  // 1.5 * 2^23, which leaves no room for fractions
    for (int i = 0; i < 3 * p.results; ++i) to[i] = ((means[i] + kWhole) - kWhole) / 255.0f;
  }
}
