// What the kernels of a tracking step are given, besides the two attentions: taptrv2_core/ops/steps.py. Features have
// the storage type (not f64), positions are float. Everything is contiguous.
#pragma once

#include "args.h"

namespace taptrv2 {

// output = LayerNorm(a + b); all (rows, C).
struct AddNorm {
  Storage storage;
  int64_t rows;
  int channels;
  float epsilon;
  const void *a, *b, *weight, *bias;
  void* output;
};

// GroupNorm of every level on its own, written into one tensor of tokens (B, S, C).
struct GroupNorm {
  Storage storage;
  int batches, levels, groups, channels, tokens;
  float epsilon;
  int rows[kMaxLevels], start[kMaxLevels];  // tokens of a level, and where it begins
  const void* input[kMaxLevels];            // (B, rows, C)
  const void* weight[kMaxLevels];
  const void* bias[kMaxLevels];
  float* partial;  // (B, chunks of all levels, groups, 2): mean, and sum of squared distances from it
  void* output;
};

// Sine codes: `half` channels a coordinate, in the order y, x, w, h.
struct Code {
  int half;
  const float *frequency, *phase;  // (half,)
};

// box = sigmoid(reference), position = its x, y, and its code (pairs, 4 * half).
struct BoxCode {
  Storage storage;
  int64_t pairs;
  Code code;
  const float* reference;  // (pairs, 4)
  float *box, *position;
  void* embedding;
};

// The attention-based position update: moved = position + sum over K of softmax(logits) * offsets / cells where
// `updated`; also the code of (moved, w, h), and that of how far it moved, (pairs, 2 * half).
struct Move {
  Storage storage;
  int64_t pairs;
  int samples;  // K
  Code code;
  const float* box;     // (pairs, 4)
  const void* logits;   // (pairs, K)
  const void* offsets;  // (pairs, K, 2), in cells
  const float* cells;   // (K, 2)
  const bool* updated;  // (pairs,)
  float* moved;         // (pairs, 2)
  void *embedding, *travelled;
};

// New reference, where `updated`: logits of (moved, w, h), plus delta; all (pairs, 4) but moved (pairs, 2).
struct RefineBoxes {
  Storage storage;
  int64_t pairs;
  const float *moved, *box, *reference;
  const bool* updated;
  const void* delta;
  float* output;
};

// A query's frames attend each other, those that are equal in `tracked` (F, N), or all (null).
struct FrameAttention {
  Storage storage;
  int frames, heads, channels;  // channels of a head: 32
  int64_t queries;
  float scale;
  const void* query_key;  // (F, N, 2, M, D)
  const void* value;      // (F, N, M, D)
  const bool* tracked;
  void* output;  // (F, N, M, D)
};

}  // namespace taptrv2
