// Where the samples of one item lie and what their corners weigh. Loops over the K samples, padded to a multiple of
// kPad, are written for the compiler to vectorise. Included inside namespace taptrv2::<instruction set>.

constexpr int kPad = 16;

// Constants of each sample's level.
template <typename A>
struct LevelTable {
  int samples, padded;
  A width[kMaxSamples], height[kMaxSamples];
  A scale_x[kMaxSamples], scale_y[kMaxSamples];  // from the given offset to cells
  int columns[kMaxSamples], rows[kMaxSamples], start[kMaxSamples];

  explicit LevelTable(const Problem& problem) {
    samples = problem.levels * problem.points;
    padded = (samples + kPad - 1) / kPad * kPad;
    for (int k = 0; k < padded; ++k) {
      const int level = k < samples ? k / problem.points : 0;
      columns[k] = k < samples ? problem.width[level] : 0;  // no columns: a padding sample is always outside
      rows[k] = k < samples ? problem.height[level] : 0;
      start[k] = k < samples ? problem.start[level] : 0;
      width[k] = A(columns[k]);
      height[k] = A(rows[k]);
      scale_x[k] = problem.reference ? A(1) : width[k];
      scale_y[k] = problem.reference ? A(1) : height[k];
    }
  }
};

// Corners in the order (x0, y0), (x1, y0), (x0, y1), (x1, y1).
template <typename A>
struct Samples {
  A x[kMaxSamples], y[kMaxSamples];  // fraction between the corners
  A corner[4][kMaxSamples];          // bilinear weight
  int token[kMaxSamples];            // of corner 0
  int inside[kMaxSamples];           // bit c: corner c is a cell of the level
};

// `count` numbers of the storage type T or of its sum type, as sums.
template <typename T>
inline void read_row(const void* base, bool in_storage, int64_t first, int count, Sum<T>* out) {
  if (in_storage) {
    const T* p = static_cast<const T*>(base) + first;
    for (int i = 0; i < count; ++i) out[i] = to_sum(p[i]);
  } else {
    __builtin_memcpy(out, static_cast<const Sum<T>*>(base) + first, sizeof(Sum<T>) * count);
  }
}

// Positions of the item's samples in cells, then its corners.
template <typename T>
inline void place(const Problem& problem, const LevelTable<Sum<T>>& table, int64_t batch, int64_t query, int64_t item,
                  Samples<Sum<T>>& s) {
  using A = Sum<T>;
  A raw[2 * kMaxSamples];
  read_row<T>(problem.offsets, problem.offsets_in_storage, item * table.samples * 2, table.samples * 2, raw);
  for (int i = 2 * table.samples; i < 2 * table.padded; ++i) raw[i] = 0;
  A reference_x = 0, reference_y = 0;
  if (problem.reference) {
    const A* p = static_cast<const A*>(problem.reference) + batch * problem.reference_stride + query * 2;
    reference_x = p[0];
    reference_y = p[1];
  }
  const int padded = table.padded;
  for (int k = 0; k < padded; ++k) {
    const A x = reference_x * table.width[k] + raw[2 * k] * table.scale_x[k] - A(0.5);
    const A y = reference_y * table.height[k] + raw[2 * k + 1] * table.scale_y[k] - A(0.5);
    // False for NaN too. What is outside is put at (0, 0), so that the conversions below are defined.
    const bool near = (x > A(-1)) & (x < table.width[k]) & (y > A(-1)) & (y < table.height[k]);
    const A safe_x = near ? x : A(0);
    const A safe_y = near ? y : A(0);
    int x0 = int(safe_x), y0 = int(safe_y);
    x0 -= A(x0) > safe_x ? 1 : 0;
    y0 -= A(y0) > safe_y ? 1 : 0;
    const A fx = safe_x - A(x0), fy = safe_y - A(y0);
    s.x[k] = fx;
    s.y[k] = fy;
    s.corner[0][k] = (1 - fx) * (1 - fy);
    s.corner[1][k] = fx * (1 - fy);
    s.corner[2][k] = (1 - fx) * fy;
    s.corner[3][k] = fx * fy;
    s.token[k] = table.start[k] + y0 * table.columns[k] + x0;
    const int left = x0 >= 0 ? 5 : 0, right = x0 + 1 < table.columns[k] ? 10 : 0;
    const int top = y0 >= 0 ? 3 : 0, bottom = y0 + 1 < table.rows[k] ? 12 : 0;
    s.inside[k] = near ? (left | right) & (top | bottom) : 0;
  }
}

// exp of each lane for x <= 0, to 2 ulp; Cephes' polynomial. F is float or a vector of floats, I the same of int32_t.
template <typename F, typename I>
inline F exponential_of(F x) {
  const F lowest = F{} - 87.0f;
  x = x < lowest ? lowest : x;  // NaN stays
  I n;
  if constexpr (sizeof(F) == sizeof(float)) {
    n = I(x * 1.44269504088896341f - 0.5f);
  } else {
    n = __builtin_convertvector(x * 1.44269504088896341f - 0.5f, I);
  }
  F whole;
  if constexpr (sizeof(F) == sizeof(float)) {
    whole = F(n);
  } else {
    whole = __builtin_convertvector(n, F);
  }
  const F r = x - whole * 0.693359375f - whole * -2.12194440e-4f;
  F p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const I bits = (n + 127) << 23;
  F scale;
  __builtin_memcpy(&scale, &bits, sizeof scale);
  return p * scale;
}
inline float exponential(float x) { return exponential_of<float, int32_t>(x); }
inline double exponential(double x) { return __builtin_exp(x); }

// Softmax over the first `samples`; the padding up to `padded`, a multiple of kPad, becomes 0.
inline void softmax(double* v, int samples, int padded) {
  double largest = v[0], sum = 0;
  for (int k = 1; k < samples; ++k) largest = v[k] > largest ? v[k] : largest;
  for (int k = 0; k < samples; ++k) sum += v[k] = exponential(v[k] - largest);
  for (int k = 0; k < samples; ++k) v[k] /= sum;
  for (int k = samples; k < padded; ++k) v[k] = 0;
}

inline void softmax(float* v, int samples, int padded) {
  using F = Vector<float, kLanes>;
  for (int k = samples; k < padded; ++k) v[k] = v[0];
  F most = load<kLanes>(v);
  for (int k = kLanes; k < padded; k += kLanes) {
    const F other = load<kLanes>(v + k);
    most = other > most ? other : most;
  }
  const float highest = largest<float, kLanes>(most);
  for (int k = samples; k < padded; ++k) v[k] = highest - 1e4f;
  F sums = {};
  for (int k = 0; k < padded; k += kLanes) {
    const F weight = exponential_of<F, Vector<int32_t, kLanes>>(load<kLanes>(v + k) - highest);
    sums += weight;
    store<kLanes>(weight, v + k);
  }
  const float scale = 1 / total<float, kLanes>(sums);
  for (int k = 0; k < padded; k += kLanes) {
    store<kLanes>(load<kLanes>(v + k) * scale, v + k);
  }
  for (int k = samples; k < padded; ++k) v[k] = 0;
}
