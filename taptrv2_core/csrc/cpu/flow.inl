// Pyramidal Lucas-Kanade as OpenCV has it (calcOpticalFlowPyrLK with its own settings): pixels and gradients between
// pixels are whole numbers, the same to the bit; only sums over the window are rounded otherwise. Included inside
// namespace taptrv2::<instruction set>.

constexpr int kFlowWide = 32;  // a row of the window in whole vectors; what is beyond the window is not used
constexpr int kFlowVectors = kFlowWide / kLanes;
constexpr int kFlowBits = 14;          // of the weights between pixels
constexpr int kFlowMore = 5;           // bits that pixels are more exact by
constexpr int kFlowTimes = 30;         // most steps on a level
constexpr float kFlowTexture = 1e-4f;  // least eigenvalue of a window that can be followed
using FlowInts = Vector<int32_t, kLanes>;

inline FlowInts flow_load(const int16_t* p) {
  Vector<int16_t, kLanes> v;
  __builtin_memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, FlowInts);
}
inline FlowInts flow_load(const int32_t* p) {
  FlowInts v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline void flow_store(FlowInts v, int32_t* p) { __builtin_memcpy(p, &v, sizeof v); }

// Rows [first, last) of the next image, smaller by half. Pixels come in pairs, one in each half of an int, which
// weighted sums of five rows fit into. What is written beyond a row's end is not of the image. Scratch: two rows of
// sums.
inline void halve_rows(const FlowLevel& given, const FlowLevel& half, int first, int last, int32_t* scratch) {
  int32_t* even = scratch + kLanes;  // of columns 2 * x
  int32_t* odd = even + half.width + 3 * kLanes;
  const int64_t s = given.stride;
  for (int y = first; y < last; ++y) {
    const int16_t* row = given.pixels + 2 * y * s;
    using Pairs = Vector<uint32_t, kLanes>;  // what is not of the image may be anything, and wrap
    const auto pairs = [&](int64_t at) {
      Pairs v;
      __builtin_memcpy(&v, row + at, sizeof v);
      return v;
    };
    for (int x = -1; x <= half.width; x += kLanes) {
      const int64_t at = 2 * x;
      const Pairs sum = pairs(at - 2 * s) + 4 * (pairs(at - s) + pairs(at + s)) + 6 * pairs(at) + pairs(at + 2 * s);
      flow_store(FlowInts(sum & 0xffff), even + x);
      flow_store(FlowInts(sum >> 16), odd + x);
    }
    int16_t* to = half.pixels + int64_t(y) * half.stride;
    for (int x = 0; x < half.width; x += kLanes) {
      const FlowInts sum = flow_load(even + x - 1) + flow_load(even + x + 1) + 6 * flow_load(even + x) +
                           4 * (flow_load(odd + x - 1) + flow_load(odd + x));
      const auto pixels = __builtin_convertvector((sum + 128) >> 8, Vector<int16_t, kLanes>);
      __builtin_memcpy(to + x, &pixels, sizeof pixels);
    }
  }
}

// What four pixels weigh for a place between them.
struct FlowWeights {
  int32_t w[4];
  FlowWeights(float a, float b) {
    const float whole = 1 << kFlowBits;
    w[0] = int32_t(__builtin_lrintf((1 - a) * (1 - b) * whole));
    w[1] = int32_t(__builtin_lrintf(a * (1 - b) * whole));
    w[2] = int32_t(__builtin_lrintf((1 - a) * b * whole));
    w[3] = (1 << kFlowBits) - w[0] - w[1] - w[2];
  }
};

// Between two rows of pixels or gradients, without the last `bits`.
template <typename T>
inline FlowInts flow_between(const T* row, int64_t stride, const FlowWeights& at, int bits) {
  const FlowInts sum = flow_load(row) * at.w[0] + flow_load(row + 1) * at.w[1] + flow_load(row + stride) * at.w[2] +
                       flow_load(row + stride + 1) * at.w[3];
  return (sum + (1 << (bits - 1))) >> bits;
}

inline float flow_total(const FlowInts* sums) {
  Vector<float, kLanes> sum = {};
  for (int v = 0; v < kFlowVectors; ++v) sum += __builtin_convertvector(sums[v], Vector<float, kLanes>);
  return total<float, kLanes>(sum) / float(1 << 20);
}

// The surroundings of a point: pixels, their gradients, and sums of products of those.
struct FlowPatch {
  int32_t pixel[kFlowWindow][kFlowWide], across[kFlowWindow][kFlowWide], down[kFlowWindow][kFlowWide];
  float xx, xy, yy;
};

inline FlowInts flow_lanes(int first) {
  FlowInts lanes;
  for (int i = 0; i < kLanes; ++i) lanes[i] = first + i;
  return lanes;
}

// Scharr's gradients of the pixels around (left, top), 0 outside the image.
struct FlowGradients {
  static constexpr int kRows = kFlowWindow + 1, kLine = kFlowWide + kLanes;
  int32_t across[kRows][kLine], down[kRows][kLine];

  FlowGradients(const FlowLevel& image, int left, int top) {
    const int64_t s = image.stride;
    for (int x = 0; x < kFlowWide; x += kLanes) {
      const FlowInts column = flow_lanes(left + x);
      const FlowInts inside_x = (column >= 0) & (column < image.width);
      for (int y = 0; y < kRows; ++y) {
        const FlowInts inside = top + y >= 0 && top + y < image.height ? inside_x : FlowInts{};
        const int16_t* row = image.pixels + (top + y) * s + left + x;
        FlowInts smooth[2], step[3];
        for (int i = 0; i < 3; ++i) {
          const FlowInts above = flow_load(row - s + i - 1), below = flow_load(row + s + i - 1);
          step[i] = below - above;
          if (i != 1) smooth[i / 2] = 3 * (above + below) + 10 * flow_load(row + i - 1);
        }
        flow_store(inside & (smooth[1] - smooth[0]), across[y] + x);
        flow_store(inside & (3 * (step[2] + step[0]) + 10 * step[1]), down[y] + x);
      }
    }
    for (int y = 0; y < kRows; ++y) {  // read, if not used
      flow_store(FlowInts{}, across[y] + kFlowWide);
      flow_store(FlowInts{}, down[y] + kFlowWide);
    }
  }
};

inline void flow_patch(const FlowLevel& image, int left, int top, const FlowWeights& at, FlowPatch& patch) {
  const FlowGradients gradients(image, left, top);
  FlowInts xx[kFlowVectors] = {}, xy[kFlowVectors] = {}, yy[kFlowVectors] = {};
  for (int y = 0; y < kFlowWindow; ++y) {
    const int16_t* row = image.pixels + int64_t(top + y) * image.stride + left;
    for (int v = 0; v < kFlowVectors; ++v) {
      const int x = v * kLanes;
      FlowInts across = flow_between(gradients.across[y] + x, FlowGradients::kLine, at, kFlowBits);
      FlowInts down = flow_between(gradients.down[y] + x, FlowGradients::kLine, at, kFlowBits);
      const FlowInts inside = flow_lanes(x) < kFlowWindow;
      across &= inside, down &= inside;
      flow_store(flow_between(row + x, image.stride, at, kFlowBits - kFlowMore), patch.pixel[y] + x);
      flow_store(across, patch.across[y] + x);
      flow_store(down, patch.down[y] + x);
      xx[v] += across * across, xy[v] += across * down, yy[v] += down * down;
    }
  }
  patch.xx = flow_total(xx), patch.xy = flow_total(xy), patch.yy = flow_total(yy);
}

// Sums over the window around (left, top) of its difference from a patch, times the patch's gradients.
inline void flow_mismatch(const FlowLevel& image, int left, int top, const FlowWeights& at, const FlowPatch& patch,
                          float* sums) {
  FlowInts across[kFlowVectors] = {}, down[kFlowVectors] = {};
  for (int y = 0; y < kFlowWindow; ++y) {
    const int16_t* row = image.pixels + int64_t(top + y) * image.stride + left;
    for (int v = 0; v < kFlowVectors; ++v) {
      const int x = v * kLanes;
      const FlowInts pixel = flow_between(row + x, image.stride, at, kFlowBits - kFlowMore);
      const FlowInts difference = pixel - flow_load(patch.pixel[y] + x);
      across[v] += difference * flow_load(patch.across[y] + x);
      down[v] += difference * flow_load(patch.down[y] + x);
    }
  }
  sums[0] = flow_total(across), sums[1] = flow_total(down);
}

// Where the window of a point begins, and how far between pixels; whether any of it can be inside the image.
struct FlowPlace {
  int left = 0, top = 0;
  float a = 0, b = 0;
  bool near;

  FlowPlace(const FlowLevel& image, float x, float y) {
    x -= kFlowWindow / 2, y -= kFlowWindow / 2;
    // False for NaN too.
    near = x >= -kFlowWindow && x < image.width && y >= -kFlowWindow && y < image.height;
    if (!near) return;
    left = int(__builtin_floorf(x)), top = int(__builtin_floorf(y));
    a = x - left, b = y - top;
  }
};

// A point on one level; x, y: where it probably is, and then is. Returns whether it could be followed.
inline bool flow_on_level(const FlowLevel& before, const FlowLevel& after, float from_x, float from_y, float& x,
                          float& y) {
  const FlowPlace from(before, from_x, from_y);
  if (!from.near) return false;
  FlowPatch patch;
  flow_patch(before, from.left, from.top, FlowWeights(from.a, from.b), patch);
  const float xx = patch.xx, xy = patch.xy, yy = patch.yy, determinant = xx * yy - xy * xy;
  const float least =
      (yy + xx - __builtin_sqrtf((xx - yy) * (xx - yy) + 4 * xy * xy)) / (2 * kFlowWindow * kFlowWindow);
  if (least < kFlowTexture || determinant < 1.1920929e-7f) return false;
  float before_x = 0, before_y = 0;
  for (int i = 0; i < kFlowTimes; ++i) {
    const FlowPlace at(after, x, y);
    if (!at.near) return false;
    float sums[2];
    flow_mismatch(after, at.left, at.top, FlowWeights(at.a, at.b), patch, sums);
    const float dx = (xy * sums[1] - yy * sums[0]) / determinant, dy = (xy * sums[0] - xx * sums[1]) / determinant;
    x += dx, y += dy;
    if (dx * dx + dy * dy <= 1e-4f) break;
    if (i > 0 && __builtin_fabsf(dx + before_x) < 0.01f && __builtin_fabsf(dy + before_y) < 0.01f) {  // to and fro
      x -= 0.5f * dx, y -= 0.5f * dy;
      break;
    }
    before_x = dx, before_y = dy;
  }
  return true;
}

inline bool flow_one(const FlowPyramid& before, const FlowPyramid& after, const float* from, float* to) {
  bool found = false;
  for (int level = before.levels - 1; level >= 0; --level) {
    const float scale = 1.0f / float(1 << level);
    const bool first = level == before.levels - 1;
    to[0] = first ? from[0] * scale : to[0] * 2, to[1] = first ? from[1] * scale : to[1] * 2;
    found = flow_on_level(before.level[level], after.level[level], from[0] * scale, from[1] * scale, to[0], to[1]);
  }
  return found && FlowPlace(after.level[0], to[0], to[1]).near;
}

inline void flow_points(const Flow& p, int64_t first, int64_t last) {
  for (int64_t i = first; i < last; ++i) {
    const bool found = flow_one(p.before, p.after, p.xy + 2 * i, p.moved + 2 * i);
    p.found[i] = flow_one(p.after, p.before, p.moved + 2 * i, p.returned + 2 * i) && found;
  }
}
