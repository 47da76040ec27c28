// A 3 x 3 convolution by Winograd's F(4 x 4, 3 x 3), see taptrv2_core/fast/conv.py: in each direction, 6 inputs and 3
// weights at the points 0, a, -a, b, -b and infinity give 4 outputs. Included inside namespace
// taptrv2::<instruction set>.

constexpr float kA = 0.625f, kB = 1.5f;

// Six inputs of a line at the points.
template <typename Lanes>
inline void to_points(const Lanes* x, int step, Lanes* out, int out_step) {
  constexpr float aa = kA * kA, bb = kB * kB;
  const Lanes even_a = x[4 * step] - x[2 * step] * bb, odd_a = (x[3 * step] - x[step] * bb) * kA;
  const Lanes even_b = x[4 * step] - x[2 * step] * aa, odd_b = (x[3 * step] - x[step] * aa) * kB;
  out[0] = x[0] * (aa * bb) + (x[4 * step] - x[2 * step] * (aa + bb));
  out[out_step] = even_a + odd_a;
  out[2 * out_step] = even_a - odd_a;
  out[3 * out_step] = even_b + odd_b;
  out[4 * out_step] = even_b - odd_b;
  out[5 * out_step] = x[step] * (aa * bb) + (x[5 * step] - x[3 * step] * (aa + bb));
}

// Four outputs of a line from products at the points.
template <typename Lanes>
inline void from_points(const Lanes* x, int step, Lanes* out, int out_step) {
  constexpr float aa = kA * kA, bb = kB * kB;
  const Lanes even_a = x[step] + x[2 * step], odd_a = (x[step] - x[2 * step]) * kA;
  const Lanes even_b = x[3 * step] + x[4 * step], odd_b = (x[3 * step] - x[4 * step]) * kB;
  out[0] = x[0] + even_a + even_b;
  out[out_step] = odd_a + odd_b;
  out[2 * out_step] = even_a * aa + even_b * bb;
  out[3 * out_step] = odd_a * aa + odd_b * bb + x[5 * step];
}

// A tile's inputs at the points: values (kProducts, stride), this tile's row of each.
template <typename T, int W>
inline void transform_patch(const Convolve& p, const T* image, int row, int column, const T* zeros, float* values,
                            int64_t stride) {
  using Lanes = Vector<float, W>;
  const T* from[kProducts];
  for (int y = 0; y < kPatch; ++y) {
    for (int x = 0; x < kPatch; ++x) {
      const int r = row * kTile + y - 1, c = column * kTile + x - 1;
      const bool inside = r >= 0 && r < p.height && c >= 0 && c < p.width;
      from[y * kPatch + x] = inside ? image + (int64_t(r) * p.width + c) * p.inputs : zeros;
    }
  }
  for (int i = 0; i < p.inputs; i += W) {
    Lanes line[kPatch], half[kProducts];
#pragma GCC unroll 6
    for (int x = 0; x < kPatch; ++x) {
#pragma GCC unroll 6
      for (int y = 0; y < kPatch; ++y) line[y] = load<W>(from[y * kPatch + x] + i);
      to_points(line, 1, half + x, kPatch);
    }
#pragma GCC unroll 6
    for (int y = 0; y < kPatch; ++y) {
      to_points(half + y * kPatch, 1, line, 1);
#pragma GCC unroll 6
      for (int x = 0; x < kPatch; ++x) {
        store<W>(line[x], values + (y * kPatch + x) * stride + i);
      }
    }
  }
}

// 32 outputs of a tile from products (kProducts, stride), this tile's row of each.
template <typename T, int W>
inline void write_tile(const Convolve& p, int64_t image, int row, int column, int output, const float* products,
                       int64_t stride) {
  using Lanes = Vector<float, W>;
  for (int i = 0; i < kPanel; i += W) {
    Lanes line[kPatch], half[kTile * kPatch];
#pragma GCC unroll 6
    for (int x = 0; x < kPatch; ++x) {
#pragma GCC unroll 6
      for (int y = 0; y < kPatch; ++y) line[y] = load<W>(products + (y * kPatch + x) * stride + i);
      from_points(line, 1, half + x, kPatch);
    }
    const Lanes bias = load<W>(p.bias + output + i);
    for (int y = 0; y < kTile && row * kTile + y < p.height; ++y) {
      from_points(half + y * kPatch, 1, line, 1);
      for (int x = 0; x < kTile && column * kTile + x < p.width; ++x) {
        const int64_t pixel = (image * p.height + row * kTile + y) * p.width + column * kTile + x;
        const int64_t at = pixel * p.outputs + output + i;
        Lanes value = line[x] + bias;
        if (p.add) value += load<W>(static_cast<const T*>(p.add) + at);
        const Lanes zero = {};
        if (p.relu) value = value > zero ? value : zero;
        store<W>(value, static_cast<T*>(p.result) + at);
      }
    }
  }
}

// Tiles [first, first + count) of an image.
template <typename T, int W>
void convolve_tiles(const Convolve& p, int64_t image, int first, int count, float* memory) {
  Scratch scratch{memory};
  // Not multiples of 4 KiB: all places that far apart share a few lines of the nearest cache.
  const int64_t stride = int64_t(count) * p.inputs + kPanel / 2;
  const int64_t product_stride = count * kPanel + kPanel / 2;
  T* zeros = reinterpret_cast<T*>(scratch.take(p.inputs));
  float* values = scratch.take(kProducts * stride);
  float* products = scratch.take(kProducts * product_stride);
  for (int i = 0; i < p.inputs; ++i) zeros[i] = T{};
  const T* given = static_cast<const T*>(p.given) + image * p.height * p.width * p.inputs;
  for (int t = 0; t < count; ++t) {
    const int tile = first + t;
    transform_patch<T, W>(p, given, tile / p.tile_columns, tile % p.tile_columns, zeros, values + t * p.inputs, stride);
  }
  const float* weight = p.weight;
  for (int output = 0; output < p.outputs; output += kPanel) {
    for (int i = 0; i < kProducts; ++i, weight += int64_t(p.inputs) * kPanel) {
      panel_product<W>({values + i * stride, p.inputs}, count, p.inputs, {weight, kPanel}, kZero, false,
                       products + i * product_stride, kPanel);
    }
    for (int t = 0; t < count; ++t) {
      const int tile = first + t;
      write_tile<T, W>(p, image, tile / p.tile_columns, tile % p.tile_columns, output, products + t * kPanel,
                       product_stride);
    }
  }
}
