// What the kernels are given: plain pointers and sizes, no torch types, so that CPU and CUDA kernels compile alone.
//
// Names as in taptrv2_core/ops: B batches (or F frames), Q queries, M heads, D channels of a head, L levels, P points,
// S tokens. K = L * P samples of one item; an item is one (batch, query, head).
#pragma once

#include <cstdint>

namespace taptrv2 {

constexpr int kMaxLevels = 8;
constexpr int kMaxSamples = 64;    // L * P
constexpr int kMaxChannels = 128;  // D

// Storage of values, keys and queries. Sums, positions, softmaxes and gradients are float (double for f64).
enum class Storage { f32, f64, bf16, f16 };

struct Problem {
  Storage storage;
  int64_t batches, queries;
  int heads, channels, levels, points;
  int height[kMaxLevels], width[kMaxLevels];
  int start[kMaxLevels];  // first token of the level

  // Sampling positions. With a reference (batches or 1, Q, 2) the offsets (B, Q, M, L, P, 2) are in cells of their
  // level and relative to it; without (null) they are locations in [0, 1].
  const void* reference;
  int64_t reference_stride;  // elements between batches: 0 or Q * 2
  const void* offsets;
  bool offsets_in_storage;  // offsets have the storage type, else the type of sums

  // Elements between batches (or ring slots) and tokens of the sampled tensor; what belongs to a token is contiguous.
  int64_t batch_stride, token_stride;
};

// output (B, Q, M, D) = sum over K of weight * sample of value (B, S, M, D)
struct MultiScale : Problem {
  const void* value;
  const void* weights;  // (B, Q, M, K); with a reference they are logits, put through a softmax over K
  bool weights_in_storage;
  void* output;  // storage type

  // Backward only. Gradients have the type of sums; grad_value (B, S, M, D) is contiguous and zero at the start.
  const void* grad_output;
  void* grad_value;
  void* grad_offsets;
  void* grad_weights;
};

// logits (F, N, M, K) = <query, sampled key> / sqrt(D); output (F, N, M, D) = softmax(logits) over K * sampled values
struct KeyAware : Problem {
  const void* query;      // (F, N, M, D)
  const void* key_value;  // (R, S, M, 2, D)
  const int64_t* slots;   // (F)
  int64_t ring;           // R
  double scale;           // 1 / sqrt(D), of the logits
  void* output;           // storage type
  void* logits;           // type of sums; an input of the backward pass

  // Backward only, as above. grad_logits may be null.
  const void* grad_output;
  const void* grad_logits;
  void* grad_query;
  void* grad_key_value;  // (R, S, M, 2, D)
  void* grad_offsets;
};

}  // namespace taptrv2
