// Products of pairs in bfloat16 by Intel's tiles (AMX): 16 rows times 16 outputs at once. Included inside namespace
// taptrv2::<instruction set>. A panel of a packed weight needs no other layout: it is two tiles side by side.

constexpr int kAmxTile = 16;                         // rows of a tile, and floats or pairs in each
constexpr int kAmxBytes = kAmxTile * sizeof(float);  // of a row

// Sizes of the eight tiles of a thread, as its LDTILECFG reads them.
struct AmxLayout {
  uint8_t palette, start, reserved[14];
  uint16_t bytes[16];  // of a row of each tile
  uint8_t rows[16];
};

#define TAPTRV2_LOAD_TILE(tile, from, stride) \
  asm volatile("tileloadd (%0,%1,1), %%tmm" #tile::"r"(from), "r"(int64_t((stride) * sizeof(float))) : "memory")
#define TAPTRV2_STORE_TILE(tile, to, stride) \
  asm volatile("tilestored %%tmm" #tile ", (%0,%1,1)" ::"r"(to), "r"(int64_t((stride) * sizeof(float))) : "memory")
#define TAPTRV2_MULTIPLY_TILES(sums, inputs, weights) \
  asm volatile("tdpbf16ps %%tmm" #weights ", %%tmm" #inputs ", %%tmm" #sums::)

// out (16 or, with TWO, 32 rows; a panel) = start + x * panel. Sums stay in tiles 0 to 3, inputs go through 4 and 5,
// weights through 6 and 7.
template <bool TWO>
inline void amx_rows(Rows x, int inputs, Rows panel, Rows start, float* out, int64_t out_stride) {
  if (start.data) {
    TAPTRV2_LOAD_TILE(0, start.data, start.stride);
    TAPTRV2_LOAD_TILE(1, start.data + kAmxTile, start.stride);
    if (TWO) TAPTRV2_LOAD_TILE(2, start.from(kAmxTile).data, start.stride);
    if (TWO) TAPTRV2_LOAD_TILE(3, start.from(kAmxTile).data + kAmxTile, start.stride);
  } else {
    asm volatile("tilezero %tmm0\n tilezero %tmm1\n tilezero %tmm2\n tilezero %tmm3");
  }
  for (int k = 0; k < inputs; k += kAmxTile) {
    const float* weights = panel.data + k * panel.stride;
    TAPTRV2_LOAD_TILE(6, weights, panel.stride);
    TAPTRV2_LOAD_TILE(4, x.data + k, x.stride);
    TAPTRV2_MULTIPLY_TILES(0, 4, 6);
    TAPTRV2_LOAD_TILE(7, weights + kAmxTile, panel.stride);
    TAPTRV2_MULTIPLY_TILES(1, 4, 7);
    if (TWO) {
      TAPTRV2_LOAD_TILE(5, x.from(kAmxTile).data + k, x.stride);
      TAPTRV2_MULTIPLY_TILES(2, 5, 6);
      TAPTRV2_MULTIPLY_TILES(3, 5, 7);
    }
  }
  TAPTRV2_STORE_TILE(0, out, out_stride);
  TAPTRV2_STORE_TILE(1, out + kAmxTile, out_stride);
  if (TWO) TAPTRV2_STORE_TILE(2, out + kAmxTile * out_stride, out_stride);
  if (TWO) TAPTRV2_STORE_TILE(3, out + kAmxTile * out_stride + kAmxTile, out_stride);
}

#undef TAPTRV2_LOAD_TILE
#undef TAPTRV2_STORE_TILE
#undef TAPTRV2_MULTIPLY_TILES

inline void copy_rows(Rows from, int rows, int count, float* to, int64_t to_stride) {
  for (int r = 0; r < rows; ++r) __builtin_memcpy(to + r * to_stride, from.from(r).data, count * sizeof(float));
}

// Fewer rows than a tile has: through a place with room for all of them, so that what a row becomes does not depend on
// how many there are.
inline void few_amx_rows(Rows x, int rows, int inputs, Rows panel, Rows start, float* out, int64_t out_stride) {
  float given[kAmxTile * kDeep], sums[kAmxTile * kPanel];
  copy_rows(x, rows, inputs, given, inputs);
  if (start.data) copy_rows(start, rows, kPanel, sums, kPanel);
  amx_rows<false>({given, inputs}, inputs, panel, {start.data ? sums : nullptr, kPanel}, sums, kPanel);
  copy_rows({sums, kPanel}, rows, kPanel, out, out_stride);
}

struct AmxTiles : Pairs<true> {
  static constexpr bool kAmx = true;

  // While it lives this thread has tiles of these sizes; then those that another library, oneDNN, had set again.
  class Turn {
   public:
    Turn() {
      AmxLayout layout = {1};
      for (int i = 0; i < 8; ++i) layout.bytes[i] = kAmxBytes, layout.rows[i] = kAmxTile;
      asm volatile("sttilecfg %0" : "=m"(before_));
      asm volatile("ldtilecfg %0" ::"m"(layout));
    }
    ~Turn() {
      if (before_.palette) {
        asm volatile("ldtilecfg %0" ::"m"(before_));
      } else {
        asm volatile("tilerelease");
      }
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;

   private:
    alignas(64) AmxLayout before_;
  };

  // As panel_product, if the inputs fill tiles; else does nothing.
  template <int W>
  static bool product(Rows x, int rows, int inputs, Rows panel, Rows start, bool relu, float* out, int64_t out_stride) {
    if (inputs % kAmxTile != 0) return false;
    int r = 0;
    for (; r + 2 * kAmxTile <= rows; r += 2 * kAmxTile) {
      amx_rows<true>(x.from(r), inputs, panel, start.from(r), out + r * out_stride, out_stride);
    }
    for (; r + kAmxTile <= rows; r += kAmxTile) {
      amx_rows<false>(x.from(r), inputs, panel, start.from(r), out + r * out_stride, out_stride);
    }
    if (r < rows) few_amx_rows(x.from(r), rows - r, inputs, panel, start.from(r), out + r * out_stride, out_stride);
    for (r = 0; relu && r < rows; ++r) {
      for (int c = 0; c < kPanel; c += W) {
        const Vector<float, W> sum = load<W>(out + r * out_stride + c), zero = {};
        store<W>(sum > zero ? sum : zero, out + r * out_stride + c);
      }
    }
    return true;
  }
};
