// A layer of the encoder, fused: values of all tokens first, then blocks of tokens through everything else, in the
// order of taptrv2_core/encoder.py. T is the type of tokens and values, and of what goes into products; sums, softmax
// and LayerNorm are float. Included inside namespace taptrv2::<instruction set>.

// Rows (count, inputs) through a layer; rows of out hold whole panels.
template <int W, typename Product, typename T>
inline void linear_of(const Packed& layer, const T* x, int count, float* out, bool relu = false) {
  const auto* inputs = reinterpret_cast<const float*>(x);
  linear<W, Product>(layer, inputs, layer.inputs, count, out, panels(layer) * kPanel, relu);
}

// Where sums are made that are to become rows of T: there if those are floats, else in `room`.
inline float* sums_of(float* rows, float*) { return rows; }
inline float* sums_of(bf16*, float* room) { return room; }

// Sums as rows of T: themselves, or in `room`.
template <int W, typename Product>
inline const float* rounded(const float* sums, int, float*) {
  return sums;
}
template <int W, typename Product>
inline const bf16* rounded(const float* sums, int count, bf16* room) {
  round_all<W, Product>(sums, count, room);
  return room;
}

template <typename T, int W, typename Product>
void encode_values(const Encode& p, int64_t row, int count, float* memory) {
  [[maybe_unused]] const typename Product::Turn turn;
  const T* given = static_cast<const T*>(p.given) + row * p.channels;
  T* value = static_cast<T*>(p.value) + row * p.channels;
  float* sums = sums_of(value, memory);
  linear_of<W, Product>(p.value_layer, given, count, sums);
  round_all<W, Product>(sums, count * p.channels, value);
}

// Each head of each token gathers values; projected (count, 3 * K) are offsets and logits, result (count, C).
template <typename T, int W>
inline void gather_values(const Encode& p, const T* value, int64_t first, int count, const float* projected,
                          T* result) {
  constexpr int COUNT = kPanel / W;
  const int C = p.channels, K = p.samples, of_head = K / p.heads;
  Problem levels = p.levels;
  levels.reference = p.reference;  // offsets are in cells, also for the table
  const LevelTable<float> table(levels);
  for (int r = 0; r < count; ++r) {
    levels.offsets = projected + r * 3 * K;
    levels.reference = p.reference + (first + r) * 2;
    for (int head = 0; head < p.heads; ++head) {
      Samples<float> s;
      float weights[kMaxSamples];
      place<float>(levels, table, 0, 0, head, s);
      copy(projected + r * 3 * K + 2 * K + head * of_head, of_head, weights);
      softmax(weights, table.samples, table.padded);
      Row<T, W, COUNT> sum;
      sum.zero(COUNT);
      gather(value + head * kPanel, C, table, s, weights, COUNT, sum);
      sum.write(result + r * C + head * kPanel, COUNT);
    }
  }
}

// Tokens [first, first + count) of the image whose tokens begin at row `image`.
template <typename T, int W, typename Product>
void encode_tokens(const Encode& p, int64_t image, int64_t first, int count, float* memory) {
  [[maybe_unused]] const typename Product::Turn turn;
  const int C = p.channels, size = count * C;
  Scratch scratch{memory};
  T* result = static_cast<T*>(p.result) + (image + first) * C;
  float* x = sums_of(result, scratch.take(size));
  float* change = scratch.take(size);
  float* projected = scratch.take(int64_t(count) * 3 * p.samples);
  float* between = scratch.take(int64_t(count) * p.feedforward);
  T* row = reinterpret_cast<T*>(scratch.take(size));
  T* wide = reinterpret_cast<T*>(scratch.take(int64_t(count) * p.feedforward));
  const T* given = static_cast<const T*>(p.given) + (image + first) * C;
  const T* code = static_cast<const T*>(p.code) + first * C;
  for (int i = 0; i < size; ++i) {
    x[i] = to_sum(given[i]);
    from_sum(x[i] + to_sum(code[i]), row + i);
  }
  linear_of<W, Product>(p.offsets_and_logits, row, count, projected);
  gather_values<T, W>(p, static_cast<const T*>(p.value) + image * C, first, count, projected, row);
  linear_of<W, Product>(p.output, row, count, change);
  add_and_normalise<W>(x, change, p.norm_attention, count, C);
  linear_of<W, Product>(p.forward[0], rounded<W, Product>(x, size, row), count, between, true);
  const T* active = rounded<W, Product>(between, count * p.feedforward, wide);
  linear_of<W, Product>(p.forward[1], active, count, change);
  add_and_normalise<W>(x, change, p.norm_forward, count, C);
  round_all<W, Product>(x, size, result);
}
