// The CPU kernels, compiled once for each instruction set; the caller picks what the machine has.
#pragma once

#include "../args.h"
#include "../convolve.h"
#include "../encode.h"
#include "../flow.h"
#include "../project.h"
#include "../refine.h"
#include "../search.h"
#include "../shrink.h"

namespace taptrv2 {

struct Kernels {
  // Rows are b * Q + q.
  void (*multi_scale_forward)(const MultiScale&, int64_t first_row, int64_t last_row);
  void (*key_aware_forward)(const KeyAware&, int64_t first_row, int64_t last_row);
  // Tasks are b * M + m, or slot * M + m: two tasks never add to the same gradient.
  void (*multi_scale_backward)(const MultiScale&, int64_t first_task, int64_t last_task);
  void (*key_aware_backward)(const KeyAware&, int64_t first_task, int64_t last_task);
};

// The passes of a window's layer, for `count` queries from `first`; before them, what is kept of `rows` pairs.
struct WindowKernels {
  void (*keep_pairs)(const Window&, const int* pairs, int rows, float* scratch);
  void (*gather_layer)(const Window&, int first, int count, float* scratch);
  void (*answer_layer)(const Window&, int frame, int first, int count, float* scratch);
};

// The passes of an encoder layer: values of `count` tokens from `row`; everything else, of tokens of one image.
struct EncodeKernels {
  void (*encode_values)(const Encode&, int64_t row, int count, float* scratch);
  void (*encode_tokens)(const Encode&, int64_t image, int64_t first, int count, float* scratch);
};

// The passes of the input projections, over `count` cells of one level.
struct ProjectKernels {
  void (*project_cells)(const Project&, const ProjectLevel&, int64_t image, int64_t first, int count, float* sums);
  void (*normalise_cells)(const Project&, const ProjectLevel&, int64_t image, int64_t first, int count,
                          const float* scale);
};

// The passes of the search: logits of `count` cells; then answers for `lanes` queries from `query`.
struct SearchKernels {
  int lanes;
  void (*search_logits)(const Search&, const SearchLevel&, int first, int count, float* scratch);
  void (*search_agreement)(const Search&, const Limits&, int query, float* scratch, float* result);
  void (*search_find)(const Search&, const Limits&, int query, float* scratch, float* result);
};

// A convolution of `count` tiles of one image.
struct ConvolveKernels {
  void (*convolve_tiles)(const Convolve&, int64_t image, int first, int count, float* scratch);
};

// Some rows of a pyramid's next image, and some points.
struct FlowKernels {
  void (*halve_rows)(const FlowLevel& given, const FlowLevel& half, int first, int last, int32_t* scratch);
  void (*flow_points)(const Flow&, int64_t first, int64_t last);
};

// Some points aligned. Scratch: kRefineScratch floats.
struct RefineKernels {
  void (*refine_points)(const Refine&, int64_t first, int64_t last, float* scratch);
};

// Some rows of an image that is reduced.
struct ShrinkKernels {
  void (*shrink_rows)(const Shrink&, int first, int last, float* scratch);
};

// Each instruction set has a namespace with the same functions.
#define TAPTRV2_INSTRUCTION_SET(name)                        \
  namespace name {                                           \
  Kernels kernels(Storage storage, int channels);            \
  WindowKernels window_kernels(Storage storage, bool pairs); \
  EncodeKernels encode_kernels(Storage storage);             \
  ProjectKernels project_kernels(Storage storage);           \
  SearchKernels search_kernels(Storage storage);             \
  ConvolveKernels convolve_kernels(Storage storage);         \
  ShrinkKernels shrink_kernels();                            \
  FlowKernels flow_kernels();                                \
  RefineKernels refine_kernels();                            \
  }
TAPTRV2_INSTRUCTION_SET(baseline)
#if defined(__x86_64__)
TAPTRV2_INSTRUCTION_SET(avx2)
TAPTRV2_INSTRUCTION_SET(avx512)
#endif
#undef TAPTRV2_INSTRUCTION_SET

// The widest instruction set that this machine has kernels for: torch's own view of it, which the environment variable
// ATEN_CPU_CAPABILITY can lower.
enum class InstructionSet { kBaseline, kAvx2, kAvx512 };
InstructionSet instruction_set();

// Whether the processor has AMX, and user and operating system let this process use it.
bool amx_usable();

}  // namespace taptrv2

// The kernels of this machine, from one of the functions above: TAPTRV2_KERNELS(window_kernels, storage).
#if defined(__x86_64__)
#define TAPTRV2_KERNELS(make, ...)                                          \
  (instruction_set() == InstructionSet::kAvx512 ? avx512::make(__VA_ARGS__) \
   : instruction_set() == InstructionSet::kAvx2 ? avx2::make(__VA_ARGS__)   \
                                                : baseline::make(__VA_ARGS__))
#else
#define TAPTRV2_KERNELS(make, ...) baseline::make(__VA_ARGS__)
#endif
