// Forward kernels. Included inside namespace taptrv2::<instruction set>.

// sum += weights[k] * sample k of `base`, for all samples; weights[k] may be anything where the sample is outside.
template <typename T, int W, int COUNT>
inline void gather(const T* base, int64_t token_stride, const LevelTable<Sum<T>>& table, const Samples<Sum<T>>& s,
                   const Sum<T>* weights, int n, Row<T, W, COUNT>& sum) {
  using A = Sum<T>;
  A corner[4][kMaxSamples];
  for (int c = 0; c < 4; ++c) {
    for (int k = 0; k < table.padded; ++k) corner[c][k] = s.corner[c][k] * weights[k];
  }
  Row<T, W, COUNT> lower;  // a second chain of additions
  lower.zero(n);
  for (int k = 0; k < table.samples; ++k) {
    const T* top = base + s.token[k] * token_stride;
    const T* bottom = top + table.columns[k] * token_stride;
    if (s.inside[k] == 15) {
      sum.add(top, corner[0][k], n);
      lower.add(bottom, corner[2][k], n);
      sum.add(top + token_stride, corner[1][k], n);
      lower.add(bottom + token_stride, corner[3][k], n);
    } else {
      if (s.inside[k] & 1) sum.add(top, corner[0][k], n);
      if (s.inside[k] & 2) sum.add(top + token_stride, corner[1][k], n);
      if (s.inside[k] & 4) sum.add(bottom, corner[2][k], n);
      if (s.inside[k] & 8) sum.add(bottom + token_stride, corner[3][k], n);
    }
  }
  for (int i = 0; i < n; ++i) sum.v[i] += lower.v[i];
}

// Attention weights of an item; a softmax is taken where logits were given.
template <typename T>
inline void read_weights(const MultiScale& p, const LevelTable<Sum<T>>& table, int64_t item, Sum<T>* weights) {
  read_row<T>(p.weights, p.weights_in_storage, item * table.samples, table.samples, weights);
  if (p.reference) {
    softmax(weights, table.samples, table.padded);
  } else {
    for (int k = table.samples; k < table.padded; ++k) weights[k] = 0;
  }
}

template <typename T, int W, int COUNT>
void multi_scale_forward(const MultiScale& p, int64_t first_row, int64_t last_row) {
  using A = Sum<T>;
  using R = Row<T, W, COUNT>;
  const LevelTable<A> table(p);
  const int n = R::size(p.channels);
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t batch = row / p.queries, query = row % p.queries;
    const T* value = static_cast<const T*>(p.value) + batch * p.batch_stride;
    for (int head = 0; head < p.heads; ++head) {
      const int64_t item = row * p.heads + head;
      Samples<A> s;
      A weights[kMaxSamples];
      place<T>(p, table, batch, query, item, s);
      read_weights<T>(p, table, item, weights);
      R sum;
      sum.zero(n);
      gather(value + head * p.channels, p.token_stride, table, s, weights, n, sum);
      sum.write(static_cast<T*>(p.output) + item * p.channels, n);
    }
  }
}

// <row, sample k of `base`> * scale for all samples; 0 outside.
template <typename T, int W, int COUNT>
inline void match(const T* base, int64_t token_stride, const LevelTable<Sum<T>>& table, const Samples<Sum<T>>& s,
                  const Row<T, W, COUNT>& row, Sum<T> scale, int n, Sum<T>* products) {
  using A = Sum<T>;
  A folded[kMaxSamples][kFold] = {};
  for (int k = 0; k < table.samples; ++k) {
    if (s.inside[k] == 0) continue;
    const T* top = base + s.token[k] * token_stride;
    const T* bottom = top + table.columns[k] * token_stride;
    Row<T, W, COUNT> key;
    key.zero(n);
    if (s.inside[k] & 1) key.add(top, s.corner[0][k], n);
    if (s.inside[k] & 2) key.add(top + token_stride, s.corner[1][k], n);
    if (s.inside[k] & 4) key.add(bottom, s.corner[2][k], n);
    if (s.inside[k] & 8) key.add(bottom + token_stride, s.corner[3][k], n);
    Vector<A, W> product = key.v[0] * row.v[0];
    for (int i = 1; i < n; ++i) product += key.v[i] * row.v[i];
    fold<A, W>(product, folded[k]);
  }
  for (int k = 0; k < table.padded; ++k) {
    products[k] = (folded[k][0] + folded[k][1] + folded[k][2] + folded[k][3]) * scale;
  }
}

template <typename T, int W, int COUNT>
void key_aware_forward(const KeyAware& p, int64_t first_row, int64_t last_row) {
  using A = Sum<T>;
  using R = Row<T, W, COUNT>;
  const LevelTable<A> table(p);
  const int n = R::size(p.channels);
  const A scale = A(p.scale);
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t frame = row / p.queries, query = row % p.queries;
    const T* slot = static_cast<const T*>(p.key_value) + p.slots[frame] * p.batch_stride;
    for (int head = 0; head < p.heads; ++head) {
      const int64_t item = row * p.heads + head;
      const T* keys = slot + 2 * head * p.channels;
      Samples<A> s;
      A weights[kMaxSamples];
      place<T>(p, table, frame, query, item, s);
      R vector;
      vector.read(static_cast<const T*>(p.query) + item * p.channels, n);
      match(keys, p.token_stride, table, s, vector, scale, n, weights);
      __builtin_memcpy(static_cast<A*>(p.logits) + item * table.samples, weights, sizeof(A) * table.samples);
      softmax(weights, table.samples, table.padded);
      vector.zero(n);
      gather(keys + p.channels, p.token_stride, table, s, weights, n, vector);
      vector.write(static_cast<T*>(p.output) + item * p.channels, n);
    }
  }
}
