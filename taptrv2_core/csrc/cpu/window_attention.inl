// What a window's pairs attend: memory, their query's other frames, their frame's other queries. Keys and values are
// never made for whole frames: a head's query goes through the key's weight and is held against samples of memory
// itself, and the weighted sum of samples goes through the value's weight; each bias counts as often as corners of
// samples are inside. Included inside namespace taptrv2::<instruction set>.

constexpr Rows kZero{nullptr, 0};

// Parts of one thread's scratch memory.
struct Scratch {
  float* next;
  float* take(int64_t count) {
    float* part = next;
    next += (count + kPanel - 1) / kPanel * kPanel;
    return part;
  }
};

// Rows of floats as Product takes them in: as they are, or rounded to bfloat16, in scratch memory.
template <int W, typename Product>
inline Rows inputs_of(Rows x, int rows, int columns, Scratch& scratch) {
  if constexpr (Product::kTogether == 1) {
    return x;
  } else {
    const int stride = columns / Product::kTogether;
    float* rounded = scratch.take(int64_t(rows) * stride);
    for (int r = 0; r < rows; ++r) {
      round_all<W, Product>(x.from(r).data, columns, reinterpret_cast<bf16*>(rounded + r * stride));
    }
    return {rounded, stride};
  }
}

// Rows through a layer whose weights are as Product takes them.
template <int W, typename Product>
inline void dense(const Packed& layer, const float* x, int64_t x_stride, int rows, float* out, int64_t out_stride,
                  Scratch scratch, bool relu = false) {
  const Rows inputs = inputs_of<W, Product>({x, x_stride}, rows, layer.inputs * Product::kTogether, scratch);
  linear<W, Product>(layer, inputs.data, inputs.stride, rows, out, out_stride, relu);
}

// Pairs of queries [first, first + count) in `frames` frames: row f * count + i is query first + i of frame f.
struct Block {
  int first, count, frames;
  int rows() const { return frames * count; }
  int64_t pair(const Window& p, int row) const { return int64_t(row / count) * p.queries + first + row % count; }
};

inline void copy(const float* from, int count, float* to) { __builtin_memcpy(to, from, sizeof(float) * count); }

// Box x, y, w, h in [0, 1].
inline void read_box(const float* logits, float* box) {
  for (int i = 0; i < 4; ++i) box[i] = sigmoid(logits[i]);
}

// Code (2 * C) of a box, coordinates in the order y, x, w, h.
inline void box_code(const Window& p, const float* box, float* code) {
  const int half = p.channels / 2;
  wave(p, box[1], code);
  wave(p, box[0], code + half);
  wave(p, box[2], code + 2 * half);
  wave(p, box[3], code + 3 * half);
}

// Where one head of one pair samples its frame's memory.
template <typename T>
struct Placed {
  Samples<float> samples;
  const T* memory;
};

// Asks for the cells around a sample, which are seldom in the nearest caches.
template <typename T>
inline void fetch(const Placed<T>& placed, const LevelTable<float>& table, int k, int channels) {
  const T* top = placed.memory + int64_t(placed.samples.token[k]) * channels;
  const T* bottom = top + int64_t(table.columns[k]) * channels;
  for (int i = 0; i < 2 * channels; i += 64 / int(sizeof(T))) {
    __builtin_prefetch(top + i);
    __builtin_prefetch(bottom + i);
  }
}

// One head of one pair: logits (L * P), the weighted sum of samples of memory (C), and how much of the weights was
// inside. `against` and the sum are in the order of `part`. Meanwhile the cells of the next one are asked for.
template <typename T, int W>
inline float attend_memory(const Window& p, const LevelTable<float>& table, const Placed<T>& placed,
                           const Placed<T>& next, const float* against, float constant, float* logits, float* sampled,
                           float* sum) {
  using Lanes = Vector<float, W>;
  const int channels = p.channels;
  const Samples<float>& s = placed.samples;
  const T* memory = placed.memory;
  float inside[kMaxSamples] = {};
  for (int k = 0; k < table.samples; ++k) {
    fetch(next, table, k, channels);
    float* row = sampled + k * channels;
    float corner[4];
    const T* from[4];
    for (int c = 0; c < 4; ++c) {
      const bool there = s.inside[k] >> c & 1;
      corner[c] = there ? s.corner[c][k] : 0.0f;
      const int token = s.token[k] + (c & 1) + (c & 2 ? table.columns[k] : 0);
      from[c] = memory + (there ? int64_t(token) * channels : 0);
      inside[k] += corner[c];
    }
    Lanes product = {};
    for (int i = 0; i < channels / W; i += 2) {
#pragma GCC unroll 2
      for (int j = i; j < i + 2; ++j) {
        const Lanes value = (part<W>(from[0], j) * corner[0] + part<W>(from[1], j) * corner[1]) +
                            (part<W>(from[2], j) * corner[2] + part<W>(from[3], j) * corner[3]);
        store<W>(value, row + j * W);
        product += value * load<W>(against + j * W);
      }
    }
    logits[k] = (total<float, W>(product) + inside[k] * constant) * p.scale;
  }
  float weights[kMaxSamples];
  copy(logits, table.samples, weights);
  softmax(weights, table.samples, table.padded);
  for (int i = 0; i < channels; i += W) {
    Lanes total = {};
    for (int k = 0; k < table.samples; ++k) total += load<W>(sampled + k * channels + i) * weights[k];
    store<W>(total, sum + i);
  }
  float share = 0;
  for (int k = 0; k < table.samples; ++k) share += weights[k] * inside[k];
  return share;
}

// Key-aware attention of `rows` pairs to their frames' memory: attended (rows, C) and raw logits (rows, K). All heads
// of a pair follow each other, as their samples lie close together.
template <typename T, int W, typename Product>
inline void attend_memories(const Window& p, const int* pairs, int rows, const float* boxes, const float* projected,
                            float* logits, float* attended, Scratch scratch) {
  const int C = p.channels, K = p.samples, of_head = K / p.heads, stride = 2 * K + C, heads = p.heads;
  Problem levels = p.levels;
  levels.reference = boxes;  // offsets are in cells, also for the table
  const LevelTable<float> table(levels);
  float* against = scratch.take(int64_t(rows) * heads * C);
  float* sums = scratch.take(int64_t(rows) * heads * C);
  float* shares = scratch.take(rows * heads);
  float* sampled = scratch.take(int64_t(of_head) * C);
  float* parts = scratch.take(2 * C);
  const float* query = projected + 2 * K;
  constexpr int kInputs = kPanel / Product::kTogether;  // of a head
  const Rows asked = inputs_of<W, Product>({query, stride}, rows, C, scratch);
  for (int head = 0; head < heads; ++head) {
    for (int i = 0; i < C / kPanel; ++i) {
      panel_product<W, Product>({asked.data + head * kInputs, asked.stride}, rows, kInputs,
                                {p.layer.key.weight + (head * C + i * kPanel) * kInputs, kPanel}, kZero, false,
                                against + head * C + i * kPanel, heads * C);
    }
  }
  Placed<T> placed[2];
  const auto place_item = [&](int item) {
    const int r = item / heads;
    levels.offsets = projected + r * stride;
    levels.reference = boxes + 4 * r;
    place<float>(levels, table, 0, 0, item % heads, placed[item % 2].samples);
    placed[item % 2].memory = static_cast<const T*>(p.memory[pairs[r] / p.queries]);
  };
  place_item(0);
  for (int item = 0; item < rows * heads; ++item) {
    const int head = item % heads;
    if (item + 1 < rows * heads) place_item(item + 1);
    Vector<float, W> constant = {};
    for (int d = head * kPanel; d < (head + 1) * kPanel; d += W) {
      constant += load<W>(query + item / heads * stride + d) * load<W>(p.layer.key_bias + d);
    }
    in_parts<T, W>(against + item * C, C, parts);
    shares[item] = attend_memory<T, W>(p, table, placed[item % 2], placed[(item + 1) % 2], parts,
                                       total<float, W>(constant), logits + item * of_head, sampled, parts + C);
    in_order<T, W>(parts + C, C, sums + item * C);
  }
  const Rows summed = inputs_of<W, Product>({sums, heads * C}, rows, heads * C, scratch);
  const int inputs = C / Product::kTogether;
  for (int head = 0; head < heads; ++head) {
    panel_product<W, Product>({summed.data + head * inputs, summed.stride}, rows, inputs,
                              {p.layer.value.weight + int64_t(head) * inputs * kPanel, kPanel}, kZero, false,
                              attended + head * kPanel, C);
    for (int r = 0; r < rows; ++r) {
      for (int d = 0; d < kPanel; ++d) {
        attended[r * C + head * kPanel + d] += shares[r * heads + head] * p.layer.value.bias[head * kPanel + d];
      }
    }
  }
}

constexpr int kTogether = 16;  // pairs whose samples of memory wait for the value's weight

template <typename T, int W, typename Product>
inline void cross_attention(const Window& p, const int* pairs, int rows, const float* boxes, const float* projected,
                            float* logits, float* attended, Scratch scratch) {
  const int64_t C = p.channels, K = p.samples;
  for (int r = 0; r < rows; r += kTogether) {
    const int some = rows - r < kTogether ? rows - r : kTogether;
    attend_memories<T, W, Product>(p, pairs + r, some, boxes + 4 * r, projected + r * (2 * K + C), logits + r * K,
                                   attended + r * C, scratch);
  }
}

// The position update: where each pair moves, by a softmax over all heads' samples of weights made from the logits.
template <int W, typename Product>
inline void move(const Window& p, const int* pairs, int rows, const float* boxes, const float* projected,
                 const float* logits, float* moved, Scratch scratch) {
  const int C = p.channels, K = p.samples, of_head = K / p.heads;
  const LevelTable<float> table(p.levels);
  float* hidden = scratch.take(int64_t(rows) * C);
  float* further = scratch.take(int64_t(rows) * C);
  float* weights = scratch.take(int64_t(rows) * K);
  dense<W, Product>(p.layer.weights[0], logits, K, rows, hidden, C, scratch, true);
  dense<W, Product>(p.layer.weights[1], hidden, C, rows, further, C, scratch, true);
  dense<W, Product>(p.layer.weights[2], further, C, rows, weights, K, scratch);
  for (int r = 0; r < rows; ++r) {
    const float* box = boxes + 4 * r;
    float* to = moved + 2 * r;
    copy(box, 2, to);
    if (!p.updated[pairs[r]]) continue;
    float* weight = weights + r * K;
    const float* offsets = projected + int64_t(r) * (2 * K + C);
    softmax(weight, K, K);
    float step[2] = {};
    for (int k = 0; k < K; ++k) {
      step[0] += weight[k] * (offsets[2 * k] / table.width[k % of_head]);
      step[1] += weight[k] * (offsets[2 * k + 1] / table.height[k % of_head]);
    }
    for (int i = 0; i < 2; ++i) to[i] = sigmoid(inverse_sigmoid(box[i] + step[i]));
  }
}

inline bool apart(const uint8_t* tracked, int64_t a, int64_t b) { return tracked && tracked[a] != tracked[b]; }

constexpr float kMasked = -1e30f;

// Each query's frames attend each other; result (rows, C) for the frames wanted, at their rows.
template <int W>
inline void attend_frames(const Window& p, const Block& block, const float* query_key, const float* value, int first,
                          int answers, float* result) {
  const int C = p.channels;
  float keys[kPanel * kPanel] = {};
  float scores[kMaxFrames * kPanel];
  for (int i = 0; i < block.count; ++i) {
    for (int head = 0; head < p.heads; ++head) {
      for (int f = 0; f < block.frames; ++f) {
        const float* key = query_key + int64_t(f * block.count + i) * 2 * C + C + head * kPanel;
        for (int d = 0; d < kPanel; ++d) keys[d * kPanel + f] = key[d] * p.scale;
      }
      const int row = first * block.count + i;
      panel_product<W>({query_key + int64_t(row) * 2 * C + head * kPanel, int64_t(block.count) * 2 * C}, answers,
                       kPanel, {keys, kPanel}, kZero, false, scores, kPanel);
      for (int a = 0; a < answers; ++a) {
        float* score = scores + a * kPanel;
        const int64_t own = block.pair(p, row + a * block.count);
        for (int f = 0; f < block.frames; ++f) {
          if (apart(p.tracked, own, block.pair(p, f * block.count + i))) score[f] = kMasked;
        }
        softmax(score, block.frames, block.frames <= kPad ? kPad : kPanel);
      }
      panel_product<W>({scores, kPanel}, answers, block.frames,
                       {value + i * C + head * kPanel, int64_t(block.count) * C}, kZero, false,
                       result + int64_t(row) * C + head * kPanel, int64_t(block.count) * C);
    }
  }
}

// Keys of the attention between queries, as panels of a packed weight: (32 channels, 32 queries), scaled.
inline void store_key(const Window& p, int64_t frame, int query, const float* key) {
  const int padded = p.padded_queries();
  for (int head = 0; head < p.heads; ++head) {
    float* panel = p.key + ((frame * p.heads + head) * padded + query / kPanel * kPanel) * kPanel + query % kPanel;
    for (int d = 0; d < kPanel; ++d) panel[d * kPanel] = key[head * kPanel + d] * p.scale;
  }
}

// Queries of one frame attend all of its queries; result (count, C).
template <int W>
inline void attend_queries(const Window& p, int frame, int first, int count, float* result, Scratch scratch) {
  const int C = p.channels, padded = p.padded_queries();
  float* scores = scratch.take(int64_t(count) * padded);
  const int64_t begin = int64_t(frame) * p.queries;
  for (int head = 0; head < p.heads; ++head) {
    const float* keys = p.key + (int64_t(frame) * p.heads + head) * padded * kPanel;
    for (int panel = 0; panel < padded; panel += kPanel) {
      panel_product<W>({p.query + (begin + first) * C + head * kPanel, C}, count, kPanel,
                       {keys + panel * kPanel, kPanel}, kZero, false, scores + panel, padded);
    }
    for (int i = 0; i < count; ++i) {
      float* score = scores + int64_t(i) * padded;
      for (int n = 0; p.tracked && n < p.queries; ++n) {
        if (apart(p.tracked, begin + first + i, begin + n)) score[n] = kMasked;
      }
      softmax(score, p.queries, padded);
    }
    panel_product<W>({scores, padded}, count, p.queries, {p.value + begin * C + head * kPanel, C}, kZero, false,
                     result + head * kPanel, C);
  }
}
