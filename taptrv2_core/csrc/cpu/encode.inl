// A layer of the encoder, fused: values of all tokens first, then blocks of tokens through everything else, in the
// order of taptrv2_core/encoder.py. Included inside namespace taptrv2::<instruction set>.

template <int W>
void encode_values(const Encode& p, int64_t row, int count) {
  linear<W>(p.value_layer, p.given + row * p.channels, p.channels, count, p.value + row * p.channels, p.channels);
}

// Each head of each token gathers values; projected (count, 3 * K) are offsets and logits, result (count, C).
template <int W>
inline void gather_values(const Encode& p, const float* value, int64_t first, int count, const float* projected,
                          float* result) {
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
      Row<float, W, COUNT> sum;
      sum.zero(COUNT);
      gather(value + head * kPanel, C, table, s, weights, COUNT, sum);
      sum.write(result + r * C + head * kPanel, COUNT);
    }
  }
}

// Tokens [first, first + count) of the image whose tokens begin at row `image`.
template <int W>
void encode_tokens(const Encode& p, int64_t image, int64_t first, int count, float* memory) {
  const int C = p.channels, K = p.samples;
  Scratch scratch{memory};
  float* query = scratch.take(int64_t(count) * C);
  float* change = scratch.take(int64_t(count) * C);
  float* projected = scratch.take(int64_t(count) * 3 * K);
  float* between = scratch.take(int64_t(count) * p.feedforward);
  const float *given = p.given + (image + first) * C, *code = p.code + first * C;
  float* x = p.result + (image + first) * C;
  for (int i = 0; i < count * C; ++i) query[i] = given[i] + code[i];
  linear<W>(p.offsets_and_logits, query, C, count, projected, 3 * K);
  gather_values<W>(p, p.value + image * C, first, count, projected, query);
  linear<W>(p.output, query, C, count, change, C);
  copy(given, count * C, x);
  add_and_normalise<W>(x, change, p.norm_attention, count, C);
  linear<W>(p.forward[0], x, C, count, between, p.feedforward, true);
  linear<W>(p.forward[1], between, p.feedforward, count, change, C);
  add_and_normalise<W>(x, change, p.norm_forward, count, C);
}
