// Vectors of the compiler (GCC, Clang) over a head's channels. Included inside namespace taptrv2::<instruction set>.

constexpr int kLanes = TAPTRV2_VECTOR_BYTES / int(sizeof(float));  // of a register

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

template <int W>
inline void store(Vector<float, W> v, float* p) {
  __builtin_memcpy(p, &v, sizeof v);
}
// In bfloat16, as `from_sum`, each in the lower half of a lane.
template <int W>
inline Vector<uint32_t, W> rounded_bits(Vector<float, W> v) {
  using Bits = Vector<uint32_t, W>;
  const Bits bits = (Bits)v, rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  return v == v ? rounded : Bits{} + 0x7fc0u;
}
template <int W>
inline void store(Vector<float, W> v, bf16* p) {
  const auto halves = __builtin_convertvector(rounded_bits<W>(v), Vector<uint16_t, W>);
  __builtin_memcpy(p, &halves, sizeof halves);
}

// Vector i of a row. In bfloat16, of each two vectors the first has the channels with even numbers and the second those
// with odd ones, which takes a third of the work that their own order would.
template <int W, typename T>
inline Vector<Sum<T>, W> part(const T* row, int i) {
  if constexpr (sizeof(T) == sizeof(Sum<T>)) {
    return load<W>(row + i * W);
  } else {
    Vector<uint32_t, W> pairs;
    const int odd = i & 1;
    __builtin_memcpy(&pairs, row + (i - odd) * W, sizeof pairs);
    return (Vector<float, W>)(odd ? pairs & 0xffff0000u : pairs << 16);
  }
}

// Sums in the order of `part` for rows of T, and in that of their channels.
template <typename T, int W, typename A>
inline void in_order(const A* parts, int channels, A* out) {
  if constexpr (sizeof(T) == sizeof(A)) {
    __builtin_memcpy(out, parts, sizeof(A) * channels);
  } else {
    using Pair = Vector<uint64_t, W / 2>;
    for (int c = 0; c < channels; c += 2 * W, parts += 2 * W) {
      for (int i = 0; i < W; i += W / 2) {
        Vector<uint32_t, W / 2> even, odd;
        __builtin_memcpy(&even, parts + i, sizeof even);
        __builtin_memcpy(&odd, parts + W + i, sizeof odd);
        const Pair pairs = __builtin_convertvector(even, Pair) | __builtin_convertvector(odd, Pair) << 32;
        __builtin_memcpy(out + c + 2 * i, &pairs, sizeof pairs);
      }
    }
  }
}
template <typename T, int W, typename A>
inline void in_parts(const A* channel, int channels, A* out) {
  if constexpr (sizeof(T) == sizeof(A)) {
    __builtin_memcpy(out, channel, sizeof(A) * channels);
  } else {
    using Half = Vector<uint32_t, W / 2>;
    for (int c = 0; c < channels; c += 2 * W, out += 2 * W) {
      for (int i = 0; i < W; i += W / 2) {
        Vector<uint64_t, W / 2> pairs;
        __builtin_memcpy(&pairs, channel + c + 2 * i, sizeof pairs);
        const Half even = __builtin_convertvector(pairs, Half), odd = __builtin_convertvector(pairs >> 32, Half);
        __builtin_memcpy(out + i, &even, sizeof even);
        __builtin_memcpy(out + W + i, &odd, sizeof odd);
      }
    }
  }
}

// All vectors of one head's row: COUNT of them (0: `count`, known at run time) of W channels.
template <typename T, int W, int COUNT>
struct Row {
  using A = Sum<T>;
  using V = Vector<A, W>;
  static constexpr int kCapacity = COUNT ? COUNT : kMaxChannels / W;
  static constexpr bool kParts = sizeof(T) < sizeof(A) && COUNT > 0 && COUNT % 2 == 0;
  V v[kCapacity];

  static inline V from(const T* p, int i) {
    if constexpr (kParts) return part<W>(p, i);
    return load<W>(p + i * W);
  }

  static inline int size(int channels) { return COUNT ? COUNT : channels / W; }

  inline void zero(int n) {
    for (int i = 0; i < n; ++i) v[i] = V{};
  }
  inline void read(const T* p, int n) {
    for (int i = 0; i < n; ++i) v[i] = from(p, i);
  }
  inline void add(const T* p, A weight, int n) {
    for (int i = 0; i < n; ++i) v[i] += from(p, i) * weight;
  }
  inline void write_sums(A* p, int n) const {
    if constexpr (kParts) {
      A lanes[kCapacity * W];
      __builtin_memcpy(lanes, v, sizeof lanes);
      in_order<T, W>(lanes, n * W, p);
    } else {
      for (int i = 0; i < n; ++i) __builtin_memcpy(p + i * W, &v[i], sizeof(V));
    }
  }
  inline void write(T* p, int n) const {
    if constexpr (sizeof(T) == sizeof(A)) {
      write_sums(p, n);
    } else if constexpr (kParts) {
      for (int i = 0; i < n; i += 2) {
        const auto pairs = rounded_bits<W>(v[i]) | rounded_bits<W>(v[i + 1]) << 16;
        __builtin_memcpy(p + i * W, &pairs, sizeof pairs);
      }
    } else {
      static_assert(W == 1);
      for (int i = 0; i < n; ++i) from_sum(v[i], p + i);
    }
  }
  // p += weight * this
  inline void add_to(A* p, A weight, int n) const {
    A sums[kCapacity * W];
    write_sums(sums, n);
    for (int i = 0; i < n; ++i) {
      const V sum = load<W>(p + i * W) + load<W>(sums + i * W) * weight;
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
  Vector<Sum<T>, W> sum = row.v[0] * row.from(p, 0);
  for (int i = 1; i < n; ++i) sum += row.v[i] * row.from(p, i);
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
