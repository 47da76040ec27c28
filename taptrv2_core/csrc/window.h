// What the fused window is given: plain pointers and sizes, as in args.h. Names: F frames, N queries, C channels, M
// heads of 32 channels, K = M * L * P samples of a query. Everything is float but the frames' memory.
#pragma once

#include "args.h"

namespace taptrv2 {

constexpr int kPanel = 32;      // outputs that lie together in a packed weight; also D, the channels of a head
constexpr int kMaxFrames = 32;  // F
constexpr int kMaxPairs = 64;   // (frame, query) pairs that go through a layer together

// A linear layer. weight: panels of kPanel outputs, each (inputs, kPanel), zero beyond the last output; bias likewise.
// With inputs in bfloat16 a pair of them, of one output, stands in a float's place, and `inputs` counts pairs.
struct Packed {
  const float* weight;
  const float* bias;
  int inputs, outputs;
};

struct Norm {
  const float* weight;
  const float* bias;
};

// In the order of taptrv2_core/fast/decoder.py.
struct SharedWeights {
  Packed reference[2], updater[2], fuser[3];
};

struct LayerWeights {
  Packed offsets_and_query;  // 2 * K offsets, then the query
  Packed key;                // of each head (32 -> C): from its query to what is held against memory
  const float* key_bias;     // (C)
  Packed value, output;
  Norm norm_cross;
  Packed weights[3];  // of the position update
  Packed position[2];
  Packed temporal_query_key, temporal_value, temporal_output;
  Norm norm_temporal;
  Packed query_key, self_value, self_output;
  Norm norm_self;
  Packed forward[2];
  Norm norm_forward;
  Packed box[3], visible;
};

struct Window {
  int frames, queries, channels, heads, feedforward, samples;  // samples: K
  Problem levels;                  // of one frame's memory; offsets and reference are set sample by sample
  float scale;                     // 1 / sqrt(32), of all logits
  const void* memory[kMaxFrames];  // (S, C) of each frame
  const uint8_t* updated;          // (F, N)
  const uint8_t* tracked;          // (F, N); null: all are
  const float* waves[2];           // frequency and phase, (C / 2)
  SharedWeights shared;
  LayerWeights layer;   // the one at work
  bool first, last;     // whether it is the first, the last
  int wanted, answers;  // first frame to answer for, and how many

  const float* entry;  // (F, N, C) content at the window's entry
  float* content;      // (F, N, C) read and written by each layer
  float* reference;    // (F, N, 4) logits, likewise
  float* moved;        // (F, N, 2)
  // Queries, keys and values of the attention between queries: (F, N, C), (F, M, ceil(N / 32), 32, 32), (F, N, C).
  float* query;
  float* key;
  float* value;
  float* visibility;  // (F, N, 3), of the last layer
  float* hidden;      // (F, N, C), likewise

  // Null, or what is kept of each pair from call to call, (F, N, kept_row()): what the first layer made of it alone, as
  // in `Alone`: x, embedding, query_key, value, moved; then of what: content, reference, whether it is updated; last,
  // whether it is kept at all.
  float* kept;
  int kept_made() const { return 5 * channels + 2; }
  int kept_row() const { return kept_made() + channels + 6; }

  int padded_queries() const { return (queries + kPanel - 1) / kPanel * kPanel; }
};

}  // namespace taptrv2
