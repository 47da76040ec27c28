"""The two deformable attentions of TAPTRv2, each behind one function.

They run fused (C++ or CUDA, `taptrv2_core/csrc`) where that library is built, and in plain PyTorch elsewhere.
"""

from __future__ import annotations

from taptrv2_core.ops.attention import (
    key_aware_deformable_attention,
    key_aware_deformable_attention_from_offsets,
    multi_scale_deformable_attention,
    multi_scale_deformable_attention_from_offsets,
)
from taptrv2_core.ops.backend import active_backend, use_backend

__all__ = [
    "active_backend",
    "key_aware_deformable_attention",
    "key_aware_deformable_attention_from_offsets",
    "multi_scale_deformable_attention",
    "multi_scale_deformable_attention_from_offsets",
    "use_backend",
]
