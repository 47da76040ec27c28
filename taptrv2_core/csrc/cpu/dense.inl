// Dense arithmetic on rows of floats: products with packed weights, LayerNorm, sines. Included inside namespace
// taptrv2::<instruction set>.

// Rows of floats; a stride of 0 repeats the first, a null `data` stands for zeros.
struct Rows {
  const float* data;
  int64_t stride;
  Rows from(int r) const { return {data ? data + r * stride : nullptr, stride}; }
};

// What a sum takes in at a time: an input, or a pair of inputs in bfloat16, which stand in a float's place.
struct Singles {
  static constexpr int kTogether = 1;
  using Input = float;
  static constexpr bool kAmx = false;
  struct Turn {};  // see AmxTiles
  template <typename Lanes>
  static Lanes add(Lanes sum, Lanes weight, float input) {
    return sum + weight * input;
  }
};
template <bool NATIVE>
struct Pairs {
  static constexpr int kTogether = 2;
  using Input = uint32_t;
  static constexpr bool kAmx = false;
  struct Turn {};
  template <typename Lanes>
  static Lanes add(Lanes sum, Lanes weight, uint32_t input) {
    using Bits = Vector<uint32_t, sizeof(Lanes) / sizeof(uint32_t)>;
    const Bits inputs = Bits{} + input;
    if constexpr (NATIVE) {
      asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(weight), "v"(inputs));
    } else {
      const Bits weights = (Bits)weight, upper = Bits{} + 0xffff0000u;
      sum += (Lanes)(weights << 16) * (Lanes)(inputs << 16);
      sum += (Lanes)(weights & upper) * (Lanes)(inputs & upper);
    }
    return sum;
  }
  // W floats to bfloat16, to the nearest, ties to even.
  template <int W>
  static void round(const float* x, bf16* to) {
    Vector<uint16_t, W> halves;
    if constexpr (NATIVE) {
      asm("vcvtneps2bf16 %1, %0" : "=v"(halves) : "v"(load<W>(x)));
      __builtin_memcpy(to, &halves, sizeof halves);
    } else {
      for (int i = 0; i < W; ++i) from_sum(x[i], to + i);
    }
  }
};

// Sums as rows of bfloat16; `count` is a multiple of W. Rows of floats are left as they are.
template <int W, typename Product>
inline void round_all(const float* sums, int count, bf16* rows) {
  for (int i = 0; i < count; i += W) Product::template round<W>(sums + i, rows + i);
}
template <int W, typename Product>
inline void round_all(const float*, int, float*) {}

// ROWS rows of out = start + x * panel, columns kPanel wide. Sums stay in registers.
template <int W, int ROWS, typename Product>
inline void panel_rows(Rows x, int inputs, Rows panel, Rows start, bool relu, float* out, int64_t out_stride) {
  constexpr int V = kPanel / W;
  using Lanes = Vector<float, W>;
  Lanes sum[ROWS][V];
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[r][v] = start.data ? load<W>(start.data + r * start.stride + v * W) : Lanes{};
  }
  for (int k = 0; k < inputs; ++k) {
    Lanes b[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) b[v] = load<W>(panel.data + k * panel.stride + v * W);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r) {
      typename Product::Input input;
      __builtin_memcpy(&input, x.data + r * x.stride + k, sizeof input);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[r][v] = Product::add(sum[r][v], b[v], input);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < ROWS; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const Lanes zero = {};
      const Lanes result = relu ? (sum[r][v] > zero ? sum[r][v] : zero) : sum[r][v];
      store<W>(result, out + r * out_stride + v * W);
    }
  }
}

constexpr int kDeep = 256;  // inputs that go through a panel at a time: 32 KiB of it, which stay in the nearest cache

#ifdef TAPTRV2_AMX
#include "amx.inl"
#endif

// As many rows at a time as there are registers for.
template <int W, typename Product = Singles, int ROWS = (W >= 16 ? 8 : 3)>
inline void panel_product(Rows x, int rows, int inputs, Rows panel, Rows start, bool relu, float* out,
                          int64_t out_stride) {
  if constexpr (Product::kAmx) {
    if (Product::template product<W>(x, rows, inputs, panel, start, relu, out, out_stride)) return;
  }
  int r = 0;
  for (; r + ROWS <= rows; r += ROWS) {
    panel_rows<W, ROWS, Product>(x.from(r), inputs, panel, start.from(r), relu, out + r * out_stride, out_stride);
  }
  if constexpr (ROWS > 1) {
    if (r < rows) {
      panel_product<W, Product, ROWS / 2>(x.from(r), rows - r, inputs, panel, start.from(r), relu, out + r * out_stride,
                                          out_stride);
    }
  }
}

inline int panels(const Packed& layer) { return (layer.outputs + kPanel - 1) / kPanel; }

// out (rows, panels * kPanel) = x (rows, inputs) through the layer. Rows of out hold whole panels.
template <int W, typename Product = Singles>
inline void linear(const Packed& layer, const float* x, int64_t x_stride, int rows, float* out, int64_t out_stride,
                   bool relu = false) {
  for (int i = 0; i < panels(layer); ++i, out += kPanel) {
    const float* panel = layer.weight + int64_t(i) * layer.inputs * kPanel;
    Rows start{layer.bias + i * kPanel, 0};
    for (int k = 0; k < layer.inputs; k += kDeep) {
      const int left = layer.inputs - k, inputs = left < kDeep ? left : kDeep;
      panel_product<W, Product>({x + k, x_stride}, rows, inputs, {panel + k * kPanel, kPanel}, start,
                                relu && left == inputs, out, out_stride);
      start = {out, out_stride};
    }
  }
}

// x = LayerNorm(x + change), row by row; both (rows, channels).
template <int W>
inline void add_and_normalise(float* x, const float* change, const Norm& norm, int rows, int channels) {
  using Lanes = Vector<float, W>;
  for (int r = 0; r < rows; ++r, x += channels, change += channels) {
    Lanes sum = {}, squares = {};
    for (int c = 0; c < channels; c += W) {
      const Lanes v = load<W>(x + c) + load<W>(change + c);
      store<W>(v, x + c);
      sum += v;
    }
    const float mean = total<float, W>(sum) / channels;
    for (int c = 0; c < channels; c += W) {
      const Lanes v = load<W>(x + c) - mean;
      squares += v * v;
    }
    const float scale = 1 / __builtin_sqrtf(total<float, W>(squares) / channels + 1e-5f);
    for (int c = 0; c < channels; c += W) {
      const Lanes v = (load<W>(x + c) - mean) * scale * load<W>(norm.weight + c) + load<W>(norm.bias + c);
      store<W>(v, x + c);
    }
  }
}

// Sine of |x| up to some hundreds, to about 1e-7.
inline float sine(float x) {
  const float turns = x * 0.318309886f;
  const int n = int(turns + (turns < 0 ? -0.5f : 0.5f));
  const float m = float(n);
  const float r = ((x - m * 3.140625f) - m * 9.67502593994140625e-4f) - m * 1.509957990978376432e-7f;
  const float s = r * r;
  float p = 2.6083159809786593e-6f;
  p = p * s - 1.9810690719168633e-4f;
  p = p * s + 8.3330785855650902e-3f;
  p = p * s - 1.6666659712791443e-1f;
  const float value = r + s * (r * p);
  return n & 1 ? -value : value;
}

// `count` channels of the sine position code of one coordinate.
inline void wave(const Window& p, float position, float* out) {
  const int count = p.channels / 2;
  for (int c = 0; c < count; ++c) out[c] = sine(p.waves[1][c] + position * p.waves[0][c]);
}

inline float sigmoid(float x) {
  const float e = exponential(x < 0 ? x : -x);
  return x < 0 ? e / (1 + e) : 1 / (1 + e);
}

inline float inverse_sigmoid(float v) {
  v = v < 0 ? 0.0f : v > 1 ? 1.0f : v;  // NaN stays
  const float least = 1e-3f, rest = 1 - v;
  return __builtin_logf((v < least ? least : v) / (rest < least ? least : rest));
}
