// The ops' schemas. Public functions, with every shape: taptrv2_core/ops/attention.py.
//
// `reference` decides what the samples are: with it, `offsets` are in cells of their level and `weights` are logits;
// without, `offsets` are locations in [0, 1] and `weights` are used as they are.
// `level_shapes` is height, width of each level, one after the other.
#include <torch/library.h>
#include <torch/version.h>

// Read by taptrv2_core/ops/backend.py before it loads the library: in another torch it may load, and be of no use.
__attribute__((used)) static const char kBuiltFor[] = "taptrv2 ops built for torch " TORCH_VERSION;

TORCH_LIBRARY(taptrv2, m) {
  m.def("multi_scale(Tensor value, int[] level_shapes, Tensor? reference, Tensor offsets, Tensor weights) -> Tensor");
  m.def(
      "multi_scale_backward(Tensor grad_output, Tensor value, int[] level_shapes, Tensor? reference, Tensor offsets, "
      "Tensor weights) -> (Tensor grad_value, Tensor grad_offsets, Tensor grad_weights)");
  m.def(
      "key_aware(Tensor query, Tensor key_value, int[] level_shapes, Tensor? reference, Tensor offsets, Tensor slots) "
      "-> (Tensor output, Tensor logits)");
  m.def(
      "key_aware_backward(Tensor grad_output, Tensor? grad_logits, Tensor query, Tensor key_value, int[] level_shapes, "
      "Tensor? reference, Tensor offsets, Tensor slots, Tensor logits) "
      "-> (Tensor grad_query, Tensor grad_key_value, Tensor grad_offsets)");
  // The decoder's window in one call, for inference on a CPU: taptrv2_core/fast/decoder.py.
  m.def(
      "decode_window(Tensor content, Tensor reference, Tensor[] memories, int[] level_shapes, Tensor updated, "
      "Tensor? tracked, int wanted, Tensor(a!)? kept, Tensor waves, Tensor parameters, int[] sizes) "
      "-> (Tensor moved, Tensor reference, Tensor visibility, Tensor hidden)");
  // Feature levels (B, inputs, H, W), channels last, to tokens (B, S, C): taptrv2_core/fast/projection.py.
  m.def("project_levels(Tensor[] features, int channels, int groups, Tensor parameters) -> Tensor");
  // A layer of the encoder, likewise: taptrv2_core/fast/encoder.py.
  m.def(
      "encode_layer(Tensor tokens, Tensor code, Tensor reference, int[] level_shapes, Tensor parameters, int[] sizes) "
      "-> Tensor");
  // The search over a whole image (1, S, C) for N queries, one tensor (1, N, C) a level, likewise:
  // taptrv2_core/fast/search.py.
  m.def(
      "search_agreement(Tensor tokens, int[] level_shapes, Tensor[] queries, Tensor nowhere, Tensor position, "
      "float least) -> Tensor");
  m.def(
      "search_find(Tensor tokens, int[] level_shapes, Tensor[] queries, Tensor nowhere, Tensor position, float sure, "
      "float better) -> Tensor");
  // A 3 x 3 convolution of stride 1, padding 1, with what is to be added if anything and a ReLU if asked for, likewise:
  // taptrv2_core/fast/conv.py.
  m.def("convolve(Tensor images, Tensor weight, Tensor? add, int outputs, bool relu) -> Tensor");
  // An image (H, W, 3) uint8 reduced to (height, width, 3) float in [0, 1], on a CPU: taptrv2_core/images.py.
  m.def("shrink(Tensor image, int height, int width) -> Tensor");
  // A grey image (H, W) uint8, reduced again and again, as flow reads it; and points (N, 2) of one such image in
  // another, and back, on a CPU: taptrv2_core/fast/flow.py.
  m.def("flow_pyramid(Tensor image) -> Tensor");
  m.def(
      "flow(Tensor before, Tensor after, int height, int width, Tensor xy) "
      "-> (Tensor moved, Tensor returned, Tensor found)");
  // Patches of a grey image (H, W) uint8 around points (N, 2) aligned with rows (N) of what is kept of M others, on a
  // CPU: taptrv2_core/fast/refine.py.
  m.def(
      "refine(Tensor image, Tensor xy, Tensor rows, Tensor features, Tensor weight, Tensor contrast, "
      "Tensor parameters) -> (Tensor offset, Tensor spread)");
  // Steps between the products, for inference on a GPU: taptrv2_core/ops/steps.py.
  m.def("add_norm(Tensor a, Tensor b, Tensor weight, Tensor bias, float epsilon) -> Tensor");
  m.def("group_norm_tokens(Tensor[] levels, Tensor[] weights, Tensor[] biases, float epsilon) -> Tensor");
  m.def(
      "box_code(Tensor reference, Tensor frequency, Tensor phase, ScalarType dtype) "
      "-> (Tensor box, Tensor position, Tensor code)");
  m.def(
      "move_positions(Tensor box, Tensor logits, Tensor offsets, Tensor cells, Tensor updated, Tensor frequency, "
      "Tensor phase) -> (Tensor moved, Tensor code, Tensor travelled)");
  m.def("refine_boxes(Tensor moved, Tensor box, Tensor reference, Tensor updated, Tensor delta) -> Tensor");
  m.def("frame_attention(Tensor query_key, Tensor value, Tensor? tracked, int heads) -> Tensor");
}
