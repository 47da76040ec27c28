// Backward kernels. Included inside namespace taptrv2::<instruction set>.

// <row, corner c of sample k> for all samples; 0 outside.
template <typename A>
struct CornerProducts {
  A v[4][kMaxSamples];
};

template <typename T, int W, int COUNT>
inline void match_corners(const T* base, int64_t token_stride, const LevelTable<Sum<T>>& table,
                          const Samples<Sum<T>>& s, const Row<T, W, COUNT>& row, int n, CornerProducts<Sum<T>>& out) {
  Sum<T> folded[4][kMaxSamples][kFold] = {};
  for (int k = 0; k < table.samples; ++k) {
    const T* top = base + s.token[k] * token_stride;
    const T* bottom = top + table.columns[k] * token_stride;
    if (s.inside[k] & 1) dot(row, top, n, folded[0][k]);
    if (s.inside[k] & 2) dot(row, top + token_stride, n, folded[1][k]);
    if (s.inside[k] & 4) dot(row, bottom, n, folded[2][k]);
    if (s.inside[k] & 8) dot(row, bottom + token_stride, n, folded[3][k]);
  }
  for (int c = 0; c < 4; ++c) {
    for (int k = 0; k < table.padded; ++k) {
      out.v[c][k] = folded[c][k][0] + folded[c][k][1] + folded[c][k][2] + folded[c][k][3];
    }
  }
}

// The gradient's row into the corners of every sample: base[corner] += row * weights[k] * bilinear weight.
template <typename T, int W, int COUNT>
inline void scatter(Sum<T>* base, int64_t token_stride, const LevelTable<Sum<T>>& table, const Samples<Sum<T>>& s,
                    const Row<T, W, COUNT>& row, const Sum<T>* weights, int n) {
  for (int k = 0; k < table.samples; ++k) {
    Sum<T>* top = base + s.token[k] * token_stride;
    Sum<T>* bottom = top + table.columns[k] * token_stride;
    if (s.inside[k] & 1) row.add_to(top, s.corner[0][k] * weights[k], n);
    if (s.inside[k] & 2) row.add_to(top + token_stride, s.corner[1][k] * weights[k], n);
    if (s.inside[k] & 4) row.add_to(bottom, s.corner[2][k] * weights[k], n);
    if (s.inside[k] & 8) row.add_to(bottom + token_stride, s.corner[3][k] * weights[k], n);
  }
}

// <row, sample k>, from its corners.
template <typename A>
inline void interpolate(const LevelTable<A>& table, const Samples<A>& s, const CornerProducts<A>& c, A* out) {
  for (int k = 0; k < table.padded; ++k) {
    out[k] = s.corner[0][k] * c.v[0][k] + s.corner[1][k] * c.v[1][k] + s.corner[2][k] * c.v[2][k] +
             s.corner[3][k] * c.v[3][k];
  }
}

// Adds the derivative by position (x, y in the units the positions were given in) of sum over k of weights[k] * sample
// k.
template <typename A>
inline void add_position_gradient(const LevelTable<A>& table, const Samples<A>& s, const CornerProducts<A>& c,
                                  const A* weights, A* x, A* y) {
  for (int k = 0; k < table.padded; ++k) {
    const A across = (1 - s.y[k]) * (c.v[1][k] - c.v[0][k]) + s.y[k] * (c.v[3][k] - c.v[2][k]);
    const A down = (1 - s.x[k]) * (c.v[2][k] - c.v[0][k]) + s.x[k] * (c.v[3][k] - c.v[1][k]);
    x[k] += weights[k] * across * table.scale_x[k];
    y[k] += weights[k] * down * table.scale_y[k];
  }
}

template <typename A>
inline void write_positions(const LevelTable<A>& table, const A* x, const A* y, A* out) {
  for (int k = 0; k < table.samples; ++k) {
    out[2 * k] = x[k];
    out[2 * k + 1] = y[k];
  }
}

// Gradient of a softmax's argument from its result and the gradient of the result, in place.
template <typename A>
inline void softmax_gradient(const A* weights, A* gradient, int samples) {
  A mean = 0;
  for (int k = 0; k < samples; ++k) mean += weights[k] * gradient[k];
  for (int k = 0; k < samples; ++k) gradient[k] = weights[k] * (gradient[k] - mean);
}

template <typename T, int W, int COUNT>
void multi_scale_backward(const MultiScale& p, int64_t first_task, int64_t last_task) {
  using A = Sum<T>;
  const LevelTable<A> table(p);
  const int n = Row<T, W, COUNT>::size(p.channels);
  const int64_t width = int64_t(p.heads) * p.channels;
  const int last = p.levels - 1;
  const int64_t tokens = p.start[last] + int64_t(p.height[last]) * p.width[last];
  for (int64_t task = first_task; task < last_task; ++task) {
    const int64_t batch = task / p.heads, head = task % p.heads;
    const T* value = static_cast<const T*>(p.value) + batch * p.batch_stride + head * p.channels;
    A* grad_value = static_cast<A*>(p.grad_value) + batch * tokens * width + head * p.channels;
    for (int64_t query = 0; query < p.queries; ++query) {
      const int64_t item = (batch * p.queries + query) * p.heads + head;
      Samples<A> s;
      A weights[kMaxSamples], grad_weights[kMaxSamples], x[kMaxSamples] = {}, y[kMaxSamples] = {};
      place<T>(p, table, batch, query, item, s);
      read_weights<T>(p, table, item, weights);
      Row<T, W, COUNT> grad;
      grad.read(static_cast<const T*>(p.grad_output) + item * p.channels, n);
      CornerProducts<A> products;
      match_corners(value, p.token_stride, table, s, grad, n, products);
      scatter(grad_value, width, table, s, grad, weights, n);
      interpolate(table, s, products, grad_weights);
      add_position_gradient(table, s, products, weights, x, y);
      if (p.reference) softmax_gradient(weights, grad_weights, table.samples);
      write_positions(table, x, y, static_cast<A*>(p.grad_offsets) + item * table.samples * 2);
      __builtin_memcpy(static_cast<A*>(p.grad_weights) + item * table.samples, grad_weights, sizeof(A) * table.samples);
    }
  }
}

// One item of the key-aware attention; `keys` and `grad_keys` at the item's slot and head, values D further on.
template <typename T, int W, int COUNT>
inline void key_aware_backward_item(const KeyAware& p, const LevelTable<Sum<T>>& table, int64_t frame, int64_t query,
                                    int64_t item, const T* keys, Sum<T>* grad_keys) {
  using A = Sum<T>;
  using R = Row<T, W, COUNT>;
  const int n = R::size(p.channels);
  const int64_t grad_stride = int64_t(p.heads) * 2 * p.channels;
  const A scale = A(p.scale);
  Samples<A> s;
  A weights[kMaxSamples], grad_logits[kMaxSamples], x[kMaxSamples] = {}, y[kMaxSamples] = {};
  place<T>(p, table, frame, query, item, s);
  __builtin_memcpy(weights, static_cast<const A*>(p.logits) + item * table.samples, sizeof(A) * table.samples);
  softmax(weights, table.samples, table.padded);
  R grad, vector;
  grad.read(static_cast<const T*>(p.grad_output) + item * p.channels, n);
  vector.read(static_cast<const T*>(p.query) + item * p.channels, n);

  CornerProducts<A> products;
  match_corners(keys + p.channels, p.token_stride, table, s, grad, n, products);
  interpolate(table, s, products, grad_logits);
  add_position_gradient(table, s, products, weights, x, y);
  softmax_gradient(weights, grad_logits, table.samples);
  if (p.grad_logits) {
    const A* given = static_cast<const A*>(p.grad_logits) + item * table.samples;
    for (int k = 0; k < table.samples; ++k) grad_logits[k] += given[k];
  }
  for (int k = 0; k < table.samples; ++k) grad_logits[k] *= scale;
  for (int k = table.samples; k < table.padded; ++k) grad_logits[k] = 0;
  match_corners(keys, p.token_stride, table, s, vector, n, products);
  add_position_gradient(table, s, products, grad_logits, x, y);
  write_positions(table, x, y, static_cast<A*>(p.grad_offsets) + item * table.samples * 2);

  scatter(grad_keys, grad_stride, table, s, vector, grad_logits, n);
  scatter(grad_keys + p.channels, grad_stride, table, s, grad, weights, n);
  vector.zero(n);
  gather(keys, p.token_stride, table, s, grad_logits, n, vector);
  vector.write_sums(static_cast<A*>(p.grad_query) + item * p.channels, n);
}

template <typename T, int W, int COUNT>
void key_aware_backward(const KeyAware& p, int64_t first_task, int64_t last_task) {
  using A = Sum<T>;
  const LevelTable<A> table(p);
  const int64_t width = int64_t(p.heads) * 2 * p.channels;
  const int last = p.levels - 1;
  const int64_t tokens = p.start[last] + int64_t(p.height[last]) * p.width[last];
  for (int64_t task = first_task; task < last_task; ++task) {
    const int64_t slot = task / p.heads, head = task % p.heads;
    const T* keys = static_cast<const T*>(p.key_value) + slot * p.batch_stride + head * 2 * p.channels;
    A* grad_keys = static_cast<A*>(p.grad_key_value) + slot * tokens * width + head * 2 * p.channels;
    for (int64_t frame = 0; frame < p.batches; ++frame) {
      if (p.slots[frame] != slot) continue;
      for (int64_t query = 0; query < p.queries; ++query) {
        const int64_t item = (frame * p.queries + query) * p.heads + head;
        key_aware_backward_item<T, W, COUNT>(p, table, frame, query, item, keys, grad_keys);
      }
    }
  }
}
