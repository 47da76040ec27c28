// All kernels for one instruction set. The including file sets TAPTRV2_ISA (a namespace) and TAPTRV2_VECTOR_BYTES and
// switches the compiler's target. No standard header is included here or below, and everything but `kernels` is in an
// unnamed namespace: code made for one instruction set must not be merged by the linker with that for another.

namespace taptrv2 {
namespace TAPTRV2_ISA {
namespace {

#include "vectors.inl"
#include "samples.inl"
#include "forward.inl"
#include "backward.inl"
#include "dense.inl"
#include "window_attention.inl"
#include "window.inl"
#include "encode.inl"
#include "project.inl"
#include "search.inl"
#include "convolve.inl"
#include "shrink.inl"
#include "flow.inl"
#include "refine.inl"

template <typename T, int W, int COUNT>
Kernels table_of() {
  return {multi_scale_forward<T, W, COUNT>, key_aware_forward<T, W, COUNT>, multi_scale_backward<T, W, COUNT>,
          key_aware_backward<T, W, COUNT>};
}

// Heads of 32 channels, those of every TAPTRv2 network, have kernels of their own.
template <typename T>
Kernels table_for(int channels) {
  if (channels == 32) return table_of<T, kLanes, 32 / kLanes>();
  return table_of<T, 1, 0>();
}

// Kernels with linear layers of a storage type.
template <typename T, typename Product>
struct LayerKernels {
  static WindowKernels window() {
    return {keep_pairs<T, kLanes, Product>, gather_layer<T, kLanes, Product>, answer_layer<kLanes, Product>};
  }
  static EncodeKernels encode() { return {encode_values<T, kLanes, Product>, encode_tokens<T, kLanes, Product>}; }
  static ProjectKernels project() { return {project_cells<T, kLanes, Product>, normalise_cells<T, kLanes>}; }
  static SearchKernels search() {
    return {kLanes, search_logits<T, kLanes, Product>, search_agreement<kLanes>, search_find<kLanes>};
  }
};

template <typename Make>
auto in_storage(Storage storage, Make make) {
  if (storage != Storage::bf16) return make(LayerKernels<float, Singles>{});
#ifdef TAPTRV2_AMX
  if (amx_usable()) return make(LayerKernels<bf16, AmxTiles>{});
#endif
#if TAPTRV2_VECTOR_BYTES == 64
  if (__builtin_cpu_supports("avx512bf16")) return make(LayerKernels<bf16, Pairs<true>>{});
#endif
  return make(LayerKernels<bf16, Pairs<false>>{});
}

}  // namespace

Kernels kernels(Storage storage, int channels) {
  if (storage == Storage::f64) return table_of<double, 1, 0>();
  if (storage == Storage::bf16) return table_for<bf16>(channels);
  return table_for<float>(channels);
}

WindowKernels window_kernels(Storage storage, bool pairs) {
  if (storage == Storage::bf16 && !pairs) return LayerKernels<bf16, Singles>::window();
  return in_storage(storage, [](auto layers) { return layers.window(); });
}

EncodeKernels encode_kernels(Storage storage) {
  return in_storage(storage, [](auto layers) { return layers.encode(); });
}

ProjectKernels project_kernels(Storage storage) {
  return in_storage(storage, [](auto layers) { return layers.project(); });
}

SearchKernels search_kernels(Storage storage) {
  return in_storage(storage, [](auto layers) { return layers.search(); });
}

ConvolveKernels convolve_kernels(Storage storage) {
  if (storage == Storage::bf16) return {convolve_tiles<bf16, kLanes>};
  return {convolve_tiles<float, kLanes>};
}

ShrinkKernels shrink_kernels() { return {shrink_rows}; }

FlowKernels flow_kernels() { return {halve_rows, flow_points}; }

RefineKernels refine_kernels() { return {refine_points}; }

}  // namespace TAPTRV2_ISA
}  // namespace taptrv2
