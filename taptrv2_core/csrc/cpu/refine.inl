// Patches aligned by learned Gauss-Newton steps, point by point: taptrv2_core/refine.py. A lane is a cell, a row of
// cells one vector or a few; a channel is a plane of cells with some more around them. Included inside namespace
// taptrv2::<instruction set>.

using RefineLanes = Vector<float, kLanes>;
constexpr int kPlaneLine = 32;  // floats between rows of a plane, each of which begins on a cache line
constexpr int kPlaneEdge = 4;   // that rows of features are longer by at either side
constexpr float kLongestSteps[kGaussNewton] = {4, 2}, kLeastContrast = 6, kSamplesOfImage = 512;

constexpr int plane_at(int y, int x) { return (y + 1) * kPlaneLine + kCells + x; }
constexpr int clamped_row(int y) { return y < 0 ? 0 : y < kCells ? y : kCells - 1; }
inline RefineLanes refine_load(const float* p) { return load<kLanes>(p); }
inline float refine_total(RefineLanes v) { return total<float, kLanes>(v); }

// One thread's planes. Around the first three kinds are zeros; those of features have their ends repeated at the sides.
struct RefinePlanes {
  float patch[4 * kRefinePlane];  // samples of even rows and columns, even and odd, odd and even, odd
  float hidden[kHidden * kRefinePlane], bare[kFeatures * kRefinePlane];
  float now[kFeatures * kRefinePlane], kept[kFeatures * kRefinePlane];
};
static_assert(sizeof(RefinePlanes) == kRefineScratch * sizeof(float));

// Where what a convolution sums up is, from a cell's own place. Of three by three, the first are those of a group.
struct RefineTaps {
  int patch[25] = {}, three[9 * kHidden] = {};
  constexpr RefineTaps() {
    for (int i = 0; i < 25; ++i) {
      const int y = i / 5, x = i % 5;
      patch[i] = (y % 2 * 2 + x % 2) * kRefinePlane + (y / 2 - 1) * kPlaneLine + x / 2 - 1;
    }
    for (int i = 0; i < 9 * kHidden; ++i) {
      three[i] = i / 9 * kRefinePlane + (i % 9 / 3 - 1) * kPlaneLine + i % 3 - 1;
    }
  }
};
constexpr RefineTaps kRefineTaps;

// Samples along a line of the image, those with even numbers first: each `share` of the way from a pixel to the next.
struct RefineLine {
  int first[2 * kCells];
  float share[2 * kCells];
  RefineLine(float middle, float step, int length) {
    const float last = float(length - 1);
    for (int i = 0; i < 2 * kCells; ++i) {
      const int number = i < kCells ? 2 * i : 2 * (i - kCells) + 1;
      const float at = middle + float(number - kSide / 2) * step;
      const float inside = at > 0 ? at < last ? at : last : 0;  // NaN: 0
      first[i] = int(inside) < length - 1 ? int(inside) : length - 2;
      share[i] = inside - float(first[i]);
    }
  }
};

// A row of samples between two rows of the image, less a level near all of them, so that little is lost in their sums.
// The last is one too many.
inline void sample_row(const uint8_t* above, const uint8_t* below, float share, const RefineLine& across, int level,
                       float* to) {
  uint16_t pairs[2][2 * kCells];  // each a pixel and the next, in the upper byte
  for (int i = 0; i < 2 * kCells; ++i) {
    __builtin_memcpy(pairs[0] + i, above + across.first[i], 2);
    __builtin_memcpy(pairs[1] + i, below + across.first[i], 2);
  }
  for (int i = 0; i < 2 * kCells; i += kLanes) {
    RefineLanes between[2];
    for (int k = 0; k < 2; ++k) {
      Vector<uint16_t, kLanes> both;
      __builtin_memcpy(&both, pairs[k] + i, sizeof both);
      const auto wide = __builtin_convertvector(both, Vector<int32_t, kLanes>);
      const auto left = wide & 0xff, change = (wide >> 8) - left;
      between[k] = __builtin_convertvector(left - level, RefineLanes) +
                   __builtin_convertvector(change, RefineLanes) * refine_load(across.share + i);
    }
    store<kLanes>(between[0] + (between[1] - between[0]) * share, to + i);
  }
}

// The patch around a point, whatever the light, and the logarithm of its contrast.
inline float sample_patch(const Refine& p, const float* xy, float* planes) {
  const float step = float(p.width > p.height ? p.width : p.height) / kSamplesOfImage;
  const RefineLine across(xy[0], step, p.width), down(xy[1], step, p.height);
  constexpr int kLine = 2 * kCells;
  float grey[kSide * kLine];
  const int level = p.image[int64_t(down.first[0]) * p.width + across.first[0]];
  RefineLanes sums = {}, squares = {};
  for (int y = 0; y < kSide; ++y) {
    const uint8_t* above = p.image + int64_t(down.first[y]) * p.width;
    float* row = grey + y * kLine;
    sample_row(above, above + p.width, down.share[y], across, level, row);
    row[kSide] = 0;
    for (int x = 0; x < kLine; x += kLanes) sums += refine_load(row + x);
  }
  const float mean = refine_total(sums) / (kSide * kSide);
  for (int y = 0; y < kSide; ++y) {
    grey[y * kLine + kSide] = mean;  // it adds nothing, and is 0 in the planes
    for (int x = 0; x < kLine; x += kLanes) {
      const RefineLanes v = refine_load(grey + y * kLine + x) - mean;
      squares += v * v;
    }
  }
  const float deviation = __builtin_sqrtf(refine_total(squares) / (kSide * kSide));
  const float scale = 1 / (deviation + kLeastContrast);
  for (int y = 0; y < kSide; ++y) {  // rows, too, are those with even numbers first
    float* plane = planes + (y < kCells ? 0 : 2 * kRefinePlane) + plane_at(y % kCells, 0);
    for (int x = 0; x < kLine; x += kLanes) {
      float* to = plane + (x < kCells ? 0 : kRefinePlane) + x % kCells;
      store<kLanes>((refine_load(grey + y * kLine + x) - mean) * scale, to);
    }
  }
  return __builtin_logf(deviation + 1);
}

// Four outputs of every cell: write(output, where in a plane, sums).
template <int TAPS, typename Write>
inline void refine_convolve(const float* planes, const int* taps, RefineLayer layer, Write write) {
  constexpr int kTogether = kLanes >= 16 ? 4 : 2;  // vectors, as there are registers for
  for (int cell = 0; cell < kCells * kCells; cell += kTogether * kLanes) {
    const auto place = [=](int v) {
      const int at = cell + v * kLanes;
      return plane_at(at / kCells, at % kCells);
    };
    const float* from[kTogether];
    RefineLanes sum[kTogether][4];
#pragma GCC unroll 4
    for (int v = 0; v < kTogether; ++v) {
      from[v] = planes + place(v);
#pragma GCC unroll 4
      for (int o = 0; o < 4; ++o) sum[v][o] = RefineLanes{} + layer.bias[o];
    }
    for (int k = 0; k < TAPS; ++k) {
      RefineLanes in[kTogether];
#pragma GCC unroll 4
      for (int v = 0; v < kTogether; ++v) in[v] = refine_load(from[v] + taps[k]);
#pragma GCC unroll 4
      for (int o = 0; o < 4; ++o) {
        const float weight = layer.weight[4 * k + o];
#pragma GCC unroll 4
        for (int v = 0; v < kTogether; ++v) sum[v][o] += in[v] * weight;
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < kTogether; ++v) {
#pragma GCC unroll 4
      for (int o = 0; o < 4; ++o) write(o, place(v), sum[v][o]);
    }
  }
}

// All outputs of a convolution over all inputs, and a ReLU.
template <int TAPS>
inline void refine_layer(const float* planes, const int* taps, RefineLayer layer, int outputs, float* to) {
  for (int i = 0; i < outputs; i += 4) {
    refine_convolve<TAPS>(planes, taps, {layer.weight + i * TAPS, layer.bias + i}, [&](int o, int at, RefineLanes v) {
      const RefineLanes zero = {};
      store<kLanes>(v > zero ? v : zero, to + (i + o) * kRefinePlane + at);
    });
  }
}

inline void repeat_ends(float* planes) {
  for (int y = 0; y < kFeatures * kCells; ++y) {
    float* row = planes + y / kCells * kRefinePlane + plane_at(y % kCells, 0);
    for (int x = 1; x <= kPlaneEdge; ++x) row[-x] = row[0], row[kCells - 1 + x] = row[kCells - 1];
  }
}

// Features of the patch in `m` to `now`.
inline void refine_features(const Refine& p, RefinePlanes& m) {
  refine_layer<25>(m.patch, kRefineTaps.patch, p.patch, kHidden, m.hidden);
  refine_layer<9 * kHidden>(m.hidden, kRefineTaps.three, p.hidden, kFeatures, m.bare);
  for (int i = 0; i < kFeatures; i += 4) {  // in groups of four
    const float* bare = m.bare + i * kRefinePlane;
    const RefineLayer layer{p.context.weight + i * 36, p.context.bias + i};
    refine_convolve<36>(bare, kRefineTaps.three, layer, [&](int o, int at, RefineLanes v) {
      const int64_t place = o * kRefinePlane + at;
      store<kLanes>(v + refine_load(bare + place), m.now + i * kRefinePlane + place);
    });
  }
  repeat_ends(m.now);
}

// Sums over cells, by how much each says: of products of gradients (x, y: twice as large) and differences, of weights,
// and how unlike each feature is.
struct RefineSums {
  RefineLanes xx = {}, xy = {}, yy = {}, xd = {}, yd = {}, dd = {}, weight = {}, unlike[kFeatures] = {};
};

inline RefineLanes refine_weight(RefineLanes logit) {
  const RefineLanes zero = {};
  const RefineLanes e = exponential_of<RefineLanes, Vector<int32_t, kLanes>>(logit < zero ? logit : -logit);
  return (logit < zero ? e : zero + 1) / (1 + e);
}

// What is kept against what is now an offset away.
inline void refine_compare(const Refine& p, const RefinePlanes& m, const float* logits, const float* offset,
                           RefineSums& sums) {
  int whole[2];
  float share[2];
  for (int i = 0; i < 2; ++i) {
    const float at = offset[i] > -kPlaneEdge && offset[i] < kPlaneEdge ? offset[i] : 0;
    whole[i] = int(__builtin_floorf(at)), share[i] = at - float(whole[i]);
  }
  for (int cell = 0; cell < kCells * kCells; cell += kLanes) {
    const int y = cell / kCells, x = cell % kCells;
    const float* kept = m.kept + plane_at(y, x);
    const int above = (clamped_row(y - 1) - y) * kPlaneLine, below = (clamped_row(y + 1) - y) * kPlaneLine;
    const float* now = m.now + plane_at(clamped_row(y + whole[1]), x + whole[0]);
    const int next = (clamped_row(y + whole[1] + 1) - clamped_row(y + whole[1])) * kPlaneLine;
    RefineLanes xx = {}, xy = {}, yy = {}, xd = {}, yd = {}, dd = {}, unlike[kFeatures];
    RefineLanes logit = refine_load(logits + cell) - p.doubt[kFeatures];
    for (int c = 0; c < kFeatures; ++c, kept += kRefinePlane, now += kRefinePlane) {
      const RefineLanes right = refine_load(kept + 1) - refine_load(kept - 1);
      const RefineLanes down = refine_load(kept + below) - refine_load(kept + above);
      const auto between = [&](const float* row) {
        const RefineLanes left = refine_load(row);
        return left + (refine_load(row + 1) - left) * share[0];
      };
      const RefineLanes first = between(now);
      const RefineLanes difference = refine_load(kept) - (first + (between(now + next) - first) * share[1]);
      unlike[c] = difference < RefineLanes{} ? -difference : difference;
      logit -= unlike[c] * p.doubt[c];
      xx += right * right, xy += right * down, yy += down * down;
      xd += right * difference, yd += down * difference, dd += difference * difference;
    }
    const RefineLanes weight = refine_weight(logit);
    sums.xx += weight * xx, sums.xy += weight * xy, sums.yy += weight * yy;
    sums.xd += weight * xd, sums.yd += weight * yd, sums.dd += weight * dd;
    sums.weight += weight;
    for (int c = 0; c < kFeatures; ++c) sums.unlike[c] += weight * unlike[c];
  }
}

// One step: moves `offset` and tells how good that is; returns the next place in what is told.
inline float* refine_step(const Refine& p, const RefineSums& sums, float longest, float* offset, float* told) {
  const float xx = refine_total(sums.xx) / 4 + *p.damping, yy = refine_total(sums.yy) / 4 + *p.damping;
  const float xy = refine_total(sums.xy) / 4, xd = refine_total(sums.xd) / 2, yd = refine_total(sums.yd) / 2;
  const float determinant = xx * yy - xy * xy + 1e-6f;
  const float x = (yy * xd - xy * yd) / determinant, y = (xx * yd - xy * xd) / determinant;
  const float drawn_in = longest / (__builtin_sqrtf(x * x + y * y) + longest);
  const float dx = x * drawn_in, dy = y * drawn_in;
  offset[0] += dx, offset[1] += dy;
  const float least = (xx + yy - __builtin_sqrtf((xx - yy) * (xx - yy) + 4 * xy * xy + 1e-6f)) / 2;
  const float weight = refine_total(sums.weight) + 0.1f;
  told[0] = __builtin_logf(least > 1e-4f ? least : 1e-4f);
  told[1] = __builtin_logf(refine_total(sums.dd) / weight + 1e-4f);
  told[2] = __builtin_logf(__builtin_sqrtf(dx * dx + dy * dy) + 0.02f);
  told[3] = __builtin_logf(weight), told[4] = __builtin_logf(xx + yy);  // the next step's take their place
  return told + 3;
}

inline void refine_points(const Refine& p, int64_t first, int64_t last, float* memory) {
  RefinePlanes& m = *reinterpret_cast<RefinePlanes*>(memory);
  __builtin_memset(m.patch, 0, sizeof m.patch);
  __builtin_memset(m.hidden, 0, sizeof m.hidden);
  __builtin_memset(m.bare, 0, sizeof m.bare);
  for (int64_t i = first; i < last; ++i) {
    const int64_t row = p.rows[i];
    const float contrast = sample_patch(p, p.xy + 2 * i, m.patch);
    refine_features(p, m);
    const float* features = p.features + row * kFeatures * kCells * kCells;
    for (int y = 0; y < kFeatures * kCells; ++y) {
      float* to = m.kept + y / kCells * kRefinePlane + plane_at(y % kCells, 0);
      __builtin_memcpy(to, features + y * kCells, kCells * sizeof(float));
    }
    repeat_ends(m.kept);
    float traits[kSpreadInputs], hidden[2][kPanel], offset[2] = {}, *told = traits;
    for (int step = 0; step < kGaussNewton; ++step) {
      RefineSums sums;
      refine_compare(p, m, p.weight + row * kCells * kCells, offset, sums);
      told = refine_step(p, sums, kLongestSteps[step], offset, told);
      const float weight = refine_total(sums.weight) + 0.1f;
      for (int c = 0; c < kFeatures; ++c) traits[kSpreadInputs - kFeatures + c] = refine_total(sums.unlike[c]) / weight;
    }
    told[2] = p.contrast[row], told[3] = contrast;
    linear<kLanes>(p.spread[0], traits, 0, 1, hidden[0], 0, true);
    linear<kLanes>(p.spread[1], hidden[0], 0, 1, hidden[1], 0, true);
    linear<kLanes>(p.spread[2], hidden[1], 0, 1, hidden[0], 0);
    const float spread = hidden[0][0];
    p.offset[2 * i] = offset[0], p.offset[2 * i + 1] = offset[1];
    p.result[i] = spread < -4 ? -4 : spread > 3 ? 3 : spread;
  }
}
