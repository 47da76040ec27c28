"""The CUDA kernels on a CPU against plain PyTorch in float64: `compare.py LIBRARY`, see `build.py`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import op_cases  # noqa: E402
import test_ops  # noqa: E402
import test_steps  # noqa: E402
from op_cases import CASES, OPS, Case  # noqa: E402

from taptrv2_core import ops  # noqa: E402

KINDS = ("network", "one level", "odd sizes", "64 samples", "outside")
"""The cases whose kernels differ; the others differ in sizes alone."""


def compare_ops(dtype: torch.dtype) -> float:
    """Cases with few queries: all in float32, also in other memory layouts; the largest error."""
    cases = CASES.values() if dtype == torch.float32 else [CASES[name] for name in KINDS]
    most = {"batch": 2, "queries": 2, "heads": 3}
    few = [replace(case, **{size: min(getattr(case, size), n) for size, n in most.items()}) for case in cases]
    found = [op_cases.compare(op, case, dtype) for op in OPS for case in few]
    for op in OPS:
        if dtype == torch.float32:
            layouts = op_cases.strided(op_cases.inputs(op, Case(queries=2, batch=1), dtype))
            found += [op_cases.compare_arguments(op, arguments) for arguments in layouts]
        if dtype.itemsize == 2:
            exact = op_cases.inputs(op, Case(queries=2), torch.float32)
            found.append(op_cases.compare_arguments(op, op_cases.stored_in(dtype, op, exact)))
    return max(found)


def slots_outside_the_ring() -> None:
    """What only the CUDA kernels do: NaN for such a frame, and no gradient."""
    for op in OPS:
        if not op.startswith("key_aware"):
            continue
        arguments = op_cases.inputs(op, Case(queries=3), torch.float32)
        leaves = [arguments[0], arguments[1]] = [t.requires_grad_() for t in arguments[:2]]
        arguments[-1] = torch.tensor([1, len(arguments[1])])
        with ops.use_backend("fused"):
            results = OPS[op](*arguments)
            gradients = torch.autograd.grad([t[:1].sum() + 0 * t[1:].nan_to_num().sum() for t in results], leaves)
        assert all(t[0].isfinite().all() and t[1].isnan().all() for t in results)
        assert gradients[0][0].any() and not gradients[0][1].any()
        assert gradients[1][1].any() and not gradients[1][[0, 2]].any()


class OnGpu(torch.Tensor):
    """Taken for a tensor on a GPU, as is what is made of it: the functions of a step go to their kernels."""

    is_cuda = True


def compare_steps() -> None:
    """The comparisons of `test_steps.py`, as if there were a GPU."""
    torch.Tensor.cuda = lambda self: self.as_subclass(OnGpu)  # type: ignore[method-assign]
    torch.nn.Module.cuda = lambda self: self  # type: ignore[method-assign]
    for dtype in test_steps.TOLERANCE:
        with ops.use_backend("fused"):
            test_steps.test_kernels_of_positions(dtype)
            for channels in (128, 256):
                test_steps.test_kernel_of_sum_and_norm(dtype, 2 * channels)
                test_steps.test_kernel_of_level_tokens(dtype, channels)
                for masked in (False, True):
                    test_steps.test_kernel_of_attention_between_frames(dtype, channels // 32, masked)
        print(f"{dtype}: the functions of a step ok", flush=True)


def main(library: str) -> None:
    torch.set_num_threads(1)
    with ops.use_backend("fused"):
        torch.ops.load_library(library)
    for dtype in (*op_cases.dtypes("cpu"), torch.float16):
        print(f"{dtype}: relative error {compare_ops(dtype):.1e} ok", flush=True)
    compare_steps()
    slots_outside_the_ring()
    test_ops.test_borders("cpu")
    test_ops.test_cells_outside_a_level_are_not_read("cpu")
    test_ops.test_ring_is_read_where_it_lies("cpu")
    for position in (float("nan"), float("inf"), -1e30):
        test_ops.test_position_that_is_nowhere_counts_as_outside(position, "cpu")


if __name__ == "__main__":
    main(sys.argv[1])
