// Launchers of a step's kernels, as those in launch.h.
#pragma once

#include "../steps.h"

namespace taptrv2 {

// Channels: a multiple of 16 bytes, at most 512. Pointers aligned to 16 bytes.
int launch_add_norm(const AddNorm& problem, void* stream);
// 32 groups of 4 or 8 channels.
int launch_group_norm(const GroupNorm& problem, void* stream);
int group_norm_chunks(const GroupNorm& problem);
int launch_box_code(const BoxCode& problem, void* stream);
int launch_move(const Move& problem, void* stream);
int launch_refine_boxes(const RefineBoxes& problem, void* stream);
// Heads of 32 channels. Pointers aligned to 16 bytes.
int launch_frame_attention(const FrameAttention& problem, void* stream);

}  // namespace taptrv2
