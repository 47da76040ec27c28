// Vectors of the compiler (GCC, Clang) over a head's channels. Included inside namespace taptrv2::<instruction set>.

struct bf16 {
  uint16_t bits;
};

template <typename T>
struct SumOf {
  using type = float;
};
template <>
struct SumOf<double> {
  using type = double;
};
template <typename T>
using Sum = typename SumOf<T>::type;

template <typename A, int W>
struct VectorOf {
  typedef A type __attribute__((vector_size(W * sizeof(A))));
};
template <typename A>
struct VectorOf<A, 1> {
  using type = A;
};
template <typename A, int W>
using Vector = typename VectorOf<A, W>::type;

inline float to_sum(bf16 v) {
  const uint32_t bits = uint32_t(v.bits) << 16;
  float out;
  __builtin_memcpy(&out, &bits, sizeof out);
  return out;
}
inline float to_sum(float v) { return v; }
inline double to_sum(double v) { return v; }

inline void from_sum(float v, float* out) { *out = v; }
inline void from_sum(double v, double* out) { *out = v; }
inline void from_sum(float v, bf16* out) {  // to the nearest, ties to even
  uint32_t bits;
  __builtin_memcpy(&bits, &v, sizeof bits);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  out->bits = uint16_t(v == v ? rounded : 0x7fc0u);
}

// W channels of the storage type T as a vector of sums.
template <int W, typename T>
inline Vector<Sum<T>, W> load(const T* p) {
  if constexpr (W == 1) {
    return to_sum(*p);
  } else if constexpr (sizeof(T) == sizeof(Sum<T>)) {
    Vector<T, W> v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  } else {
    Vector<uint16_t, W> halves;
    __builtin_memcpy(&halves, p, sizeof halves);
    const Vector<uint32_t, W> bits = __builtin_convertvector(halves, Vector<uint32_t, W>) << 16;
    return (Vector<float, W>)bits;
  }
}

// All vectors of one head's row: COUNT of them (0: `count`, known at run time) of W channels.
template <typename T, int W, int COUNT>
struct Row {
  using A = Sum<T>;
  using V = Vector<A, W>;
  static constexpr int kCapacity = COUNT ? COUNT : kMaxChannels / W;
  V v[kCapacity];

  static inline int size(int channels) { return COUNT ? COUNT : channels / W; }

  inline void zero(int n) {
    for (int i = 0; i < n; ++i) v[i] = V{};
  }
  inline void read(const T* p, int n) {
    for (int i = 0; i < n; ++i) v[i] = load<W>(p + i * W);
  }
  inline void add(const T* p, A weight, int n) {
    for (int i = 0; i < n; ++i) v[i] += load<W>(p + i * W) * weight;
  }
  inline void write(T* p, int n) const {
    for (int i = 0; i < n; ++i) {
      A lanes[W];
      __builtin_memcpy(lanes, &v[i], sizeof lanes);
      for (int j = 0; j < W; ++j) from_sum(lanes[j], p + i * W + j);
    }
  }
  inline void write_sums(A* p, int n) const {
    for (int i = 0; i < n; ++i) __builtin_memcpy(p + i * W, &v[i], sizeof(V));
  }
  // p += weight * this
  inline void add_to(A* p, A weight, int n) const {
    for (int i = 0; i < n; ++i) {
      V sum = load<W>(p + i * W);
      sum += v[i] * weight;
      __builtin_memcpy(p + i * W, &sum, sizeof sum);
    }
  }
};

// Folds a vector to kFold lanes by halving: the last, short sums are left to a loop over all dot products of an item,
// which the compiler vectorises.
constexpr int kFold = 4;

template <typename A, int W>
inline void fold(Vector<A, W> v, A* out) {
  if constexpr (W == 1) {
    out[0] = v;
    for (int i = 1; i < kFold; ++i) out[i] = 0;
  } else if constexpr (W <= kFold) {
    __builtin_memcpy(out, &v, sizeof v);
    for (int i = W; i < kFold; ++i) out[i] = 0;
  } else {
    Vector<A, W / 2> halves[2];
    __builtin_memcpy(halves, &v, sizeof v);
    fold<A, W / 2>(halves[0] + halves[1], out);
  }
}

template <typename T, int W, int COUNT>
inline void dot(const Row<T, W, COUNT>& row, const T* p, int n, Sum<T>* folded) {
  Vector<Sum<T>, W> sum = row.v[0] * load<W>(p);
  for (int i = 1; i < n; ++i) sum += row.v[i] * load<W>(p + i * W);
  fold<Sum<T>, W>(sum, folded);
}

// Sum and largest of all lanes, by halving.
template <typename A, int W>
inline A total(Vector<A, W> v) {
  if constexpr (W == 1) {
    return v;
  } else {
    Vector<A, W / 2> halves[2];
    __builtin_memcpy(halves, &v, sizeof v);
    return total<A, W / 2>(halves[0] + halves[1]);
  }
}
template <typename A, int W>
inline A largest(Vector<A, W> v) {
  if constexpr (W == 1) {
    return v;
  } else {
    Vector<A, W / 2> halves[2];
    __builtin_memcpy(halves, &v, sizeof v);
    return largest<A, W / 2>(halves[0] > halves[1] ? halves[0] : halves[1]);
  }
}
