// The search over a whole image, fused: logits of all cells of all levels first, then, for some queries at a time, a
// lane each, probabilities of the first level's cells and what is asked of them. Included inside namespace
// taptrv2::<instruction set>.

// Cell `cell` of a halved level: the mean of four, an odd edge counts twice.
template <typename T, int W>
inline void halve_cell(const SearchLevel& level, int cell, int channels, T* mean) {
  const int y = cell / level.width * 2, x = cell % level.width * 2;
  const int64_t right = x + 1 < level.given_width ? channels : 0;
  const int64_t below = y + 1 < level.given_height ? int64_t(level.given_width) * channels : 0;
  const T* from = static_cast<const T*>(level.given) + (int64_t(y) * level.given_width + x) * channels;
  for (int c = 0; c < channels; c += W, from += W) {
    const auto left_two = load<W>(from) + load<W>(from + below);
    store<W>((left_two + load<W>(from + right) + load<W>(from + below + right)) * 0.25f, mean + c);
  }
}

// Logits of the cells [first, first + count) of a level.
template <typename T, int W, typename Product>
void search_logits(const Search& p, const SearchLevel& level, int first, int count, float* memory) {
  [[maybe_unused]] const typename Product::Turn turn;
  const T* cells = static_cast<const T*>(level.given) + int64_t(first) * p.channels;
  if (level.halved) {
    T* means = reinterpret_cast<T*>(memory);
    for (int i = 0; i < count; ++i) halve_cell<T, W>(level, first + i, p.channels, means + i * p.channels);
    cells = means;
  }
  linear_of<W, Product>(level.queries, cells, count, p.logits + int64_t(level.start + first) * p.columns);
}

template <int W>
inline Vector<float, W> between(const float* first, const float* second, float share) {
  return load<W>(first) * (1 - share) + load<W>(second) * share;
}

// Logits of the first level's cells for W queries from `query`, all levels together: cells (H, W, lanes); returns the
// largest of each lane. Rows: one of each level but the first.
template <int W>
inline Vector<float, W> add_levels(const Search& p, int query, float* cells, float* rows) {
  using Lanes = Vector<float, W>;
  const int height = p.level[0].height, width = p.level[0].width;
  Lanes most = load<W>(p.nowhere + query);
  for (int y = 0; y < height; ++y, cells += width * W) {
    const auto row_of = [&](const SearchLevel& level, int row) {
      return p.logits + int64_t(level.start + row * level.width) * p.columns + query;
    };
    const float* finest = row_of(p.level[0], y);
    for (int x = 0; x < width; ++x) store<W>(load<W>(finest + int64_t(x) * p.columns), cells + x * W);
    for (int l = 1; l < p.levels; ++l) {
      const SearchLevel& level = p.level[l];
      const float* first = row_of(level, level.down.first[y]);
      const float* second = row_of(level, level.down.second[y]);
      for (int x = 0; x < level.width; ++x, first += p.columns, second += p.columns) {
        store<W>(between<W>(first, second, level.down.share[y]), rows + x * W);
      }
      const Between& across = level.across;
      for (int x = 0; x < width; ++x) {
        const auto more = between<W>(rows + across.first[x] * W, rows + across.second[x] * W, across.share[x]);
        store<W>(load<W>(cells + x * W) + more, cells + x * W);
      }
    }
    for (int x = 0; x < width; ++x) {
      const Lanes logit = load<W>(cells + x * W);
      most = logit > most ? logit : most;
    }
  }
  return most;
}

// The same cells' probabilities, each times what is returned.
template <int W>
inline Vector<float, W> shares_of(const Search& p, int query, float* cells, float* rows) {
  using Lanes = Vector<float, W>;
  using Whole = Vector<int32_t, W>;
  const int height = p.level[0].height, width = p.level[0].width;
  const Lanes most = add_levels<W>(p, query, cells, rows);
  Lanes sum = exponential_of<Lanes, Whole>(load<W>(p.nowhere + query) - most);
  for (int y = 0; y < height; ++y) {
    Lanes of_row = {};
    for (int x = 0; x < width; ++x, cells += W) {
      const Lanes share = exponential_of<Lanes, Whole>(load<W>(cells) - most);
      store<W>(share, cells);
      of_row += share;
    }
    sum += of_row;
  }
  return sum;
}

// The cell of a position in [0, 1]; not far outside the level, whatever the position.
inline int cell_of(float position, int size) {
  const float cell = position * float(size), lowest = -2, highest = float(size + 1);
  return int(!(cell > lowest) ? lowest : cell > highest ? highest : cell);
}

// Sum over the cells of one lane around (x, y), in the order of `search_find`.
template <int W>
inline float around(const Search& p, const float* cells, int x, int y, int reach) {
  const int height = p.level[0].height, width = p.level[0].width;
  float sum = 0;
  for (int near_x = x - reach; near_x <= x + reach; ++near_x) {
    float column = 0;
    for (int near_y = y - reach; near_y <= y + reach; ++near_y) {
      const bool inside = near_x >= 0 && near_x < width && near_y >= 0 && near_y < height;
      if (inside) column += cells[(int64_t(near_y) * width + near_x) * W];
    }
    sum += column;
  }
  return sum;
}

// `Search.agreement` of W queries: result (N).
template <int W>
void search_agreement(const Search& p, const Limits& limits, int query, float* memory, float* result) {
  float sums[W];
  store<W>(shares_of<W>(p, query, memory, memory + p.cells() * W), sums);
  for (int i = 0; i < W && query + i < p.queries; ++i) {
    const float* at = p.position + 2 * (query + i);
    const int x = cell_of(at[0], p.level[0].width), y = cell_of(at[1], p.level[0].height);
    const float share = around<W>(p, memory + i, x, y, 1) / sums[i];
    result[query + i] = __builtin_logf(share < limits.least ? limits.least : share > 1 ? 1.0f : share);
  }
}

constexpr int kReach = 2;  // of a place, from the cell in its middle

// The place with the largest sum for each of W queries: the sums, and the cells in the middle.
template <int W>
inline void best_places(const Search& p, const float* cells, float* rows, float* best, int32_t* at) {
  using Lanes = Vector<float, W>;
  const int height = p.level[0].height, width = p.level[0].width;
  Lanes most = Lanes{} - 1.0f;
  Vector<int32_t, W> middle = {};
  for (int y = 0; y < height; ++y) {
    const int top = y < kReach ? 0 : y - kReach, bottom = y + kReach < height ? y + kReach : height - 1;
    for (int x = 0; x < width; ++x) {
      Lanes column = {};
      for (int near = top; near <= bottom; ++near) column += load<W>(cells + (int64_t(near) * width + x) * W);
      store<W>(column, rows + x * W);
    }
    for (int x = 0; x < width; ++x) {
      const int left = x < kReach ? 0 : x - kReach, right = x + kReach < width ? x + kReach : width - 1;
      Lanes place = {};
      for (int near = left; near <= right; ++near) place += load<W>(rows + near * W);
      middle = place > most ? Vector<int32_t, W>{} + (y * width + x) : middle;
      most = place > most ? place : most;
    }
  }
  store<W>(most, best);
  __builtin_memcpy(at, &middle, sizeof middle);
}

// How far the mean of one lane around (x, y) is from there, in cells.
template <int W>
inline void mean_around(const Search& p, const float* cells, int x, int y, float* mean) {
  const int height = p.level[0].height, width = p.level[0].width;
  float sum = 0, across = 0, down = 0;
  for (int dy = -kReach; dy <= kReach; ++dy) {
    for (int dx = -kReach; dx <= kReach; ++dx) {
      if (x + dx < 0 || x + dx >= width || y + dy < 0 || y + dy >= height) continue;
      const float share = cells[(int64_t(y + dy) * width + x + dx) * W];
      sum += share, across += share * dx, down += share * dy;
    }
  }
  mean[0] = across / sum, mean[1] = down / sum;
}

inline int clamped(int cell, int size) { return cell < 0 ? 0 : cell < size ? cell : size - 1; }

// `Search.find` for W queries: result (N, 2).
template <int W>
void search_find(const Search& p, const Limits& limits, int query, float* memory, float* result) {
  const int height = p.level[0].height, width = p.level[0].width;
  float* rows = memory + p.cells() * W;
  float sums[W], best[W], mean[2];
  int32_t middle[W];
  store<W>(shares_of<W>(p, query, memory, rows), sums);
  best_places<W>(p, memory, rows, best, middle);
  for (int i = 0; i < W && query + i < p.queries; ++i) {
    const float* at = p.position + 2 * (query + i);
    float* found = result + 2 * (query + i);
    const int x = clamped(cell_of(at[0], width), width), y = clamped(cell_of(at[1], height), height);
    const float here = around<W>(p, memory + i, x, y, kReach);
    const bool surely = best[i] > limits.sure * sums[i] && best[i] > limits.better * here;
    const int column = middle[i] % width, row = middle[i] / width;
    mean_around<W>(p, memory + i, column, row, mean);
    found[0] = surely ? (column + 0.5f + mean[0]) / width : at[0];
    found[1] = surely ? (row + 0.5f + mean[1]) / height : at[1];
  }
}
