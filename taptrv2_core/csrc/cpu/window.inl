// The decoder's window, fused: each layer is two passes over (frame, query) pairs, `gather_layer` for blocks of queries
// in all frames, and `answer_layer`, which needs the keys of all queries, for blocks of queries in one frame. The order
// of computation is that of taptrv2_core/decoder.py. Included inside namespace taptrv2::<instruction set>.

// What a layer makes of each pair alone, before pairs attend each other; one row a pair.
struct Alone {
  float* x;                        // (C)
  float* embedding;                // (C) of the moved position
  float* query_key;                // (2 * C) of the attention between frames
  float* value;                    // (C)
  float* moved;                    // (2)
  float *hidden, *logits, *boxes;  // (C), (K), (4): used on the way

  Alone(const Window& p, int64_t rows, Scratch& scratch) {
    x = scratch.take(rows * p.channels);
    query_key = scratch.take(rows * 2 * p.channels);
    hidden = scratch.take(rows * p.channels);
    embedding = scratch.take(rows * p.channels);
    value = scratch.take(rows * (2 * p.samples + p.channels));  // offsets and queries at first
    logits = scratch.take(rows * p.samples);
    boxes = scratch.take(rows * 4);
    moved = scratch.take(rows * 2);
  }
};

template <typename T, int W, typename Product>
inline void make_alone(const Window& p, const int* pairs, int rows, const Alone& made, Scratch scratch) {
  const int C = p.channels, K = p.samples;
  float *x = made.x, *wide = made.query_key, *hidden = made.hidden, *embedding = made.embedding;
  float *projected = made.value, *boxes = made.boxes;
  for (int r = 0; r < rows; ++r) {
    const int64_t pair = pairs[r];
    copy(p.content + pair * C, C, x + r * C);
    copy(p.content + pair * C, C, wide + r * 2 * C);
    copy(p.entry + pair * C, C, wide + r * 2 * C + C);
    read_box(p.reference + pair * 4, boxes + 4 * r);
  }
  if (!p.first) {
    dense<W, Product>(p.shared.updater[0], wide, 2 * C, rows, hidden, C, scratch, true);
    dense<W, Product>(p.shared.updater[1], hidden, C, rows, embedding, C, scratch);
    for (int i = 0; i < rows * C; ++i) x[i] += embedding[i];
  }
  for (int r = 0; r < rows; ++r) box_code(p, boxes + 4 * r, wide + r * 2 * C);
  dense<W, Product>(p.shared.reference[0], wide, 2 * C, rows, hidden, C, scratch, true);
  dense<W, Product>(p.shared.reference[1], hidden, C, rows, embedding, C, scratch);
  for (int i = 0; i < rows * C; ++i) embedding[i] += x[i];
  dense<W, Product>(p.layer.offsets_and_query, embedding, C, rows, projected, 2 * K + C, scratch);
  cross_attention<T, W, Product>(p, pairs, rows, boxes, projected, made.logits, hidden, scratch);
  dense<W, Product>(p.layer.output, hidden, C, rows, embedding, C, scratch);
  add_and_normalise<W>(x, embedding, p.layer.norm_cross, rows, C);
  move<W, Product>(p, pairs, rows, boxes, projected, made.logits, made.moved, scratch);

  for (int r = 0; r < rows; ++r) {
    copy(made.moved + 2 * r, 2, boxes + 4 * r);
    box_code(p, boxes + 4 * r, wide + r * 2 * C);
  }
  dense<W, Product>(p.layer.position[0], wide, 2 * C, rows, hidden, C, scratch, true);
  dense<W, Product>(p.layer.position[1], hidden, C, rows, embedding, C, scratch);
  for (int i = 0; i < rows * C; ++i) hidden[i] = x[i] + embedding[i];
  dense<W, Product>(p.layer.temporal_query_key, hidden, C, rows, wide, 2 * C, scratch);
  dense<W, Product>(p.layer.temporal_value, x, C, rows, made.value, C, scratch);
}

// Between a pair's row of what is kept and its row of `made`.
template <typename Move>
inline void each_part(const Window& p, const Alone& made, int row, int64_t pair, Move move) {
  const int C = p.channels;
  float* kept = p.kept + pair * p.kept_row();
  move(kept, made.x + row * C, C);
  move(kept + C, made.embedding + row * C, C);
  move(kept + 2 * C, made.query_key + row * 2 * C, 2 * C);
  move(kept + 4 * C, made.value + row * C, C);
  move(kept + 5 * C, made.moved + row * 2, 2);
}

// Before the first layer: what it makes of pairs that have changed, to be kept.
template <typename T, int W, typename Product>
void keep_pairs(const Window& p, const int* pairs, int rows, float* memory) {
  [[maybe_unused]] const typename Product::Turn turn;
  Scratch scratch{memory};
  const Alone made(p, rows, scratch);
  make_alone<T, W, Product>(p, pairs, rows, made, scratch);
  for (int r = 0; r < rows; ++r) {
    each_part(p, made, r, pairs[r], [](float* kept, const float* part, int count) { copy(part, count, kept); });
    p.kept[(int64_t(pairs[r]) + 1) * p.kept_row() - 1] = 1;
  }
}

// First pass: from a layer's content to the queries, keys and values of the attention between queries.
template <typename T, int W, typename Product>
void gather_layer(const Window& p, int first, int count, float* memory) {
  [[maybe_unused]] const typename Product::Turn turn;
  const Block block{first, count, p.frames};
  const int C = p.channels, rows = block.rows();
  int pairs[kMaxPairs];
  for (int r = 0; r < rows; ++r) pairs[r] = int(block.pair(p, r));
  Scratch scratch{memory};
  const Alone made(p, rows, scratch);
  if (p.first && p.kept) {
    for (int r = 0; r < rows; ++r) {
      each_part(p, made, r, pairs[r], [](const float* kept, float* part, int count) { copy(kept, count, part); });
    }
  } else {
    make_alone<T, W, Product>(p, pairs, rows, made, scratch);
  }
  for (int r = 0; r < rows; ++r) copy(made.moved + 2 * r, 2, p.moved + int64_t(pairs[r]) * 2);
  float *x = made.x, *embedding = made.embedding, *hidden = made.hidden, *wide = made.query_key;
  const int wanted = p.last ? p.wanted : 0, answers = p.last ? p.answers : p.frames;
  attend_frames<W>(p, block, wide, made.value, wanted, answers, hidden);

  // From here on only the frames wanted.
  const int skipped = wanted * count, left = answers * count;
  x += skipped * C;
  embedding += skipped * C;
  hidden += skipped * C;
  float* change = made.value;
  dense<W, Product>(p.layer.temporal_output, hidden, C, left, change, C, scratch);
  add_and_normalise<W>(x, change, p.layer.norm_temporal, left, C);
  for (int i = 0; i < left * C; ++i) hidden[i] = x[i] + embedding[i];
  dense<W, Product>(p.layer.query_key, hidden, C, left, wide, 2 * C, scratch);
  dense<W, Product>(p.layer.self_value, x, C, left, change, C, scratch);
  for (int r = 0; r < left; ++r) {
    const int64_t pair = block.pair(p, skipped + r);
    copy(x + r * C, C, p.content + pair * C);
    copy(wide + r * 2 * C, C, p.query + pair * C);
    copy(change + r * C, C, p.value + pair * C);
    store_key(p, pair / p.queries, int(pair % p.queries), wide + r * 2 * C + C);
  }
}

// The box head's change of a pair's reference.
inline void refine(const Window& p, int64_t pair, const float* box, const float* change) {
  if (!p.updated[pair]) return;
  const float* moved = p.moved + pair * 2;
  float* reference = p.reference + pair * 4;
  for (int i = 0; i < 4; ++i) reference[i] = inverse_sigmoid(i < 2 ? moved[i] : box[i]) + change[i];
}

// Second pass: attention between the queries of a frame, feed-forward, heads.
template <int W, typename Product>
void answer_layer(const Window& p, int frame, int first, int count, float* memory) {
  [[maybe_unused]] const typename Product::Turn turn;
  const int C = p.channels, half = C / 2;
  const int64_t begin = int64_t(frame) * p.queries + first;
  Scratch scratch{memory};
  float* x = scratch.take(int64_t(count) * C);
  float* wide = scratch.take(int64_t(count) * 2 * C);
  float* hidden = scratch.take(int64_t(count) * C);
  float* change = scratch.take(int64_t(count) * C);
  float* boxes = scratch.take(count * 4);
  attend_queries<W>(p, frame, first, count, hidden, scratch);
  float* between = scratch.take(int64_t(count) * p.feedforward);
  dense<W, Product>(p.layer.self_output, hidden, C, count, change, C, scratch);
  copy(p.content + begin * C, count * C, x);
  add_and_normalise<W>(x, change, p.layer.norm_self, count, C);
  dense<W, Product>(p.layer.forward[0], x, C, count, between, p.feedforward, scratch, true);
  dense<W, Product>(p.layer.forward[1], between, p.feedforward, count, change, C, scratch);
  add_and_normalise<W>(x, change, p.layer.norm_forward, count, C);
  copy(x, count * C, p.content + begin * C);

  for (int i = 0; i < count; ++i) {
    const int64_t pair = begin + i;
    float* box = boxes + 4 * i;
    read_box(p.reference + pair * 4, box);
    copy(x + i * C, C, wide + i * 2 * C);
    wave(p, p.moved[2 * pair + 1] - box[1], wide + i * 2 * C + C);
    wave(p, p.moved[2 * pair] - box[0], wide + i * 2 * C + C + half);
  }
  dense<W, Product>(p.shared.fuser[0], wide, 2 * C, count, hidden, C, scratch, true);
  dense<W, Product>(p.shared.fuser[1], hidden, C, count, change, C, scratch, true);
  dense<W, Product>(p.shared.fuser[2], change, C, count, x, C, scratch);
  dense<W, Product>(p.layer.box[0], x, C, count, hidden, C, scratch, true);
  dense<W, Product>(p.layer.box[1], hidden, C, count, change, C, scratch, true);
  dense<W, Product>(p.layer.box[2], change, C, count, wide, kPanel, scratch);
  for (int i = 0; i < count; ++i) refine(p, begin + i, boxes + 4 * i, wide + i * kPanel);
  if (!p.last) return;
  dense<W, Product>(p.layer.visible, x, C, count, wide, kPanel, scratch);
  copy(x, count * C, p.hidden + begin * C);
  for (int i = 0; i < count; ++i) copy(wide + i * kPanel, 3, p.visibility + (begin + i) * 3);
}
