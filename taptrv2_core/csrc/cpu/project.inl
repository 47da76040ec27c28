// Feature levels to tokens, fused: a linear layer of each cell, then normalisation over a level's cells in groups of
// channels. Included inside namespace taptrv2::<instruction set>.

// Cells [first, first + count) of a level through its layer; sums (2, C) of results and of their squares.
template <typename T, int W, typename Product>
void project_cells(const Project& p, const ProjectLevel& level, int64_t image, int64_t first, int count, float* sums) {
  [[maybe_unused]] const typename Product::Turn turn;
  const int C = p.channels;
  const T* given = static_cast<const T*>(level.given) + (image * level.cells + first) * level.inputs;
  float* projected = p.projected + (image * p.tokens + level.start + first) * C;
  linear_of<W, Product>(level.layer, given, count, projected);
  for (int c = 0; c < C; c += W) {
    Vector<float, W> sum = {}, squares = {};
    for (int r = 0; r < count; ++r) {
      const Vector<float, W> v = load<W>(projected + r * C + c);
      sum += v;
      squares += v * v;
    }
    store<W>(sum, sums + c);
    store<W>(squares, sums + C + c);
  }
}

// The same cells, normalised: scale and shift of each channel, (2, C).
template <typename T, int W>
void normalise_cells(const Project& p, const ProjectLevel& level, int64_t image, int64_t first, int count,
                     const float* scale) {
  const int C = p.channels;
  const int64_t row = image * p.tokens + level.start + first;
  const float* projected = p.projected + row * C;
  T* result = static_cast<T*>(p.result) + row * C;
  for (int r = 0; r < count; ++r) {
    for (int c = 0; c < C; c += W) {
      const int64_t i = int64_t(r) * C + c;
      store<W>(load<W>(projected + i) * load<W>(scale + c) + load<W>(scale + C + c), result + i);
    }
  }
}
