"""The fused deformable attentions against plain PyTorch."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import op_cases
import pytest
import torch
from op_cases import CASES, OPS, Case
from torch import Tensor

from taptrv2_core import ops
from taptrv2_core.ops import backend, reference

LIBRARY_THERE = backend.library_loaded()
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() and ops.active_backend("cuda") == "fused" else [])]
DTYPES = [(device, dtype) for device in DEVICES for dtype in op_cases.dtypes(device)]
SMALL = Case(level_shapes=((4, 3), (2, 2)), heads=2, channels=4, points=2, batch=2, queries=3)

fused = pytest.mark.skipif(not LIBRARY_THERE, reason="the fused ops are not built (no C++ compiler?)")
each_op = pytest.mark.parametrize("op", OPS)
each_device = pytest.mark.parametrize("device", DEVICES)
each_dtype = pytest.mark.parametrize(("device", "dtype"), DTYPES)


@fused
@each_dtype
@each_op
@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_same_as_plain_pytorch(op: str, case: Case, device: str, dtype: torch.dtype) -> None:
    op_cases.compare(op, case, dtype, device)


@fused
@each_dtype
@each_op
def test_any_memory_layout(op: str, device: str, dtype: torch.dtype) -> None:
    for arguments in op_cases.strided(op_cases.inputs(op, Case(queries=5), dtype, device)):
        op_cases.compare_arguments(op, arguments)


@fused
@pytest.mark.parametrize(("device", "storage"), [pair for pair in DTYPES if pair[1].itemsize == 2])
@each_op
def test_float32_positions_with_half_values(op: str, device: str, storage: torch.dtype) -> None:
    """Offsets and weights may stay float32 beside values in half precision."""
    arguments = op_cases.inputs(op, Case(), torch.float32, device)
    op_cases.compare_arguments(op, op_cases.stored_in(storage, op, arguments))


@fused
@each_device
def test_ring_is_read_where_it_lies(device: str) -> None:
    """Slots repeated and permuted, the ring a part of a larger buffer: same results, same gradients."""
    case = Case(batch=6, queries=4)
    op = "key_aware_deformable_attention"
    query, key_value, shapes, where, _ = op_cases.inputs(op, case, torch.float32, device)
    buffer = torch.randn(7, 3, *key_value.shape[1:], device=device)
    for slots in ([0, 1, 2, 3, 4, 5], [5, 5, 0, 6, 0, 5], [6] * 6):
        op_cases.compare_arguments(op, [query, buffer[:, 1], shapes, where, torch.tensor(slots, device=device)])


@fused
@each_device
def test_borders(device: str) -> None:
    """Positions exactly on cell centres, borders and half a cell outside, where rounding decides nothing."""
    shapes = ((8, 4), (4, 4))
    steps = torch.arange(-2, 19) / 16
    grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1).reshape(1, -1, 1, 1, 1, 2)
    locations = grid.expand(1, -1, 1, 2, 1, 2).contiguous().to(device)
    value = torch.randn(1, 48, 1, 32, device=device)
    weights = torch.ones(locations.shape[:-1], device=device)
    with ops.use_backend("fused"):
        ours = ops.multi_scale_deformable_attention(value, shapes, locations, weights)
    theirs = reference.multi_scale_deformable_attention(value, shapes, locations, weights)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    edge = ours.view(21, 21, 32)
    assert edge[0].abs().max() == 0  # 1/8 above the image is more than half a cell on both levels


@fused
@each_device
@pytest.mark.parametrize("position", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 1e9])
def test_position_that_is_nowhere_counts_as_outside(position: float, device: str) -> None:
    for op in OPS:
        arguments = op_cases.inputs(op, SMALL, torch.float32, device)
        where = 2 if op.startswith("multi_scale") else 3
        arguments[where] = torch.full_like(arguments[where], position)
        with ops.use_backend("fused"):
            found = op_cases.results(OPS[op], arguments, torch.float32)
        assert not found[0].any()
        assert all(torch.isfinite(result).all() for result in found)


@fused
@each_device
def test_cells_outside_a_level_are_not_read(device: str) -> None:
    """A sample at a level's border must not pick up what lies beside the level in memory, not even times zero."""
    shapes = ((2, 2), (2, 2), (2, 2))
    value = torch.full((1, 12, 1, 32), float("nan"), device=device)
    value[:, 4:8] = 1.0
    locations = torch.full((1, 1, 1, 3, 1, 2), -5.0, device=device)
    locations[..., 1, 0, :] = 0.0
    weights = torch.ones(1, 1, 1, 3, 1, device=device)
    with ops.use_backend("fused"):
        found = ops.multi_scale_deformable_attention(value, shapes, locations, weights)
    assert (found == 0.25).all()


@fused
@each_device
@each_op
def test_gradcheck(op: str, device: str) -> None:
    arguments = op_cases.inputs(op, replace(SMALL, spread=0.4), torch.float64, device)
    leaves = [a.requires_grad_() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments]
    with ops.use_backend("fused"):
        # CUDA adds gradients in any order, so two runs differ in the last bits.
        assert torch.autograd.gradcheck(OPS[op], leaves, nondet_tol=1e-10 if device == "cuda" else 0.0)


@fused
@each_device
@each_op
def test_second_derivative_is_refused(op: str, device: str) -> None:
    """Without an error it would be 0, and wrong."""
    arguments = op_cases.inputs(op, SMALL, torch.float32, device)
    arguments[0].requires_grad_()
    with ops.use_backend("fused"):
        output = OPS[op](*arguments)
        output = output[0] if isinstance(output, tuple) else output
        (gradient,) = torch.autograd.grad(output.square().sum(), arguments[0], create_graph=True)
        with pytest.raises(RuntimeError, match="no second derivative"):
            gradient.square().sum().backward()


@fused
@each_op
def test_forward_mode_derivative_is_refused(op: str) -> None:
    """Without an error it would be 0, and wrong. What has no tangent may be used among what has one."""
    first, *others = op_cases.inputs(op, SMALL, torch.float32)
    with ops.use_backend("fused"):
        with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
            torch.func.jvp(lambda a: OPS[op](a, *others), (first,), (torch.ones_like(first),))
        with torch.autograd.forward_ad.dual_level():
            OPS[op](first, *others)


@fused
@each_device
def test_shared_reference_and_unused_outputs(device: str) -> None:
    """One reference for all batches gets all their gradients; logits alone, or the output alone, can be used."""
    op = "multi_scale_deformable_attention_from_offsets"
    arguments = op_cases.inputs(op, Case(batch=3), torch.float32, device)
    arguments[2] = arguments[2][:1]
    op_cases.compare_arguments(op, arguments)

    op = "key_aware_deformable_attention"
    arguments = op_cases.inputs(op, Case(), torch.float32, device)
    arguments[0].requires_grad_()
    for index in (0, 1):
        gradients = []
        for choice in ("fused", "reference"):
            with ops.use_backend(choice):
                gradients += torch.autograd.grad(OPS[op](*arguments)[index].sum(), arguments[0])
        torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


def schema_arguments(op: str, device: str, dtype: torch.dtype) -> tuple[Any, list[Any]]:
    """The registered op behind a public function and its arguments."""
    arguments = op_cases.inputs(op, SMALL, dtype, device)
    shapes = 1 if op.startswith("multi_scale") else 2
    arguments[shapes] = [size for shape in arguments[shapes] for size in shape]
    if not op.endswith("from_offsets"):
        arguments.insert(shapes + 1, None)
    name = "multi_scale" if op.startswith("multi_scale") else "key_aware"
    return getattr(torch.ops.taptrv2, name).default, arguments


@fused
@each_device
@each_op
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_opcheck(op: str, device: str) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        registered, arguments = schema_arguments(op, device, dtype)
        leaves = [a.requires_grad_() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments]
        torch.library.opcheck(registered, tuple(leaves), atol=1e-2, rtol=1e-2)


@fused
@each_op
def test_traced_without_a_break(op: str) -> None:
    """The public functions go through torch.compile's tracer as one graph, and through torch.export."""
    arguments = op_cases.inputs(op, Case(), torch.float32)
    expected = OPS[op](*arguments)
    compiled = torch.compile(OPS[op], backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(*arguments), expected)

    class Module(torch.nn.Module):
        def forward(self, *tensors: Tensor) -> Any:
            return OPS[op](*tensors[:shapes], arguments[shapes], *tensors[shapes:])

    shapes = 1 if op.startswith("multi_scale") else 2
    tensors = tuple(a for a in arguments if isinstance(a, Tensor))
    program = torch.export.export(Module(), tensors)
    torch.testing.assert_close(program.module()(*tensors), expected)
    assert any("taptrv2" in str(node.target) for node in program.graph.nodes)


@fused
@pytest.mark.parametrize("op", [op for op in OPS if op.endswith("from_offsets")])
def test_traced_once_for_any_number_of_queries(op: str) -> None:
    """But for none and one, of which the tracer makes graphs of their own."""
    torch._dynamo.reset()
    graphs = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(OPS[op], backend=graphs, fullgraph=True, dynamic=True)
    for count in (7, 1, 64, 0, 13):
        arguments = op_cases.inputs(op, replace(SMALL, queries=count), torch.float32)
        torch.testing.assert_close(compiled(*arguments), OPS[op](*arguments))
    assert graphs.frame_count <= 3


WRONG: dict[str, tuple[str, dict[int, Any], str]] = {
    "levels": ("multi_scale_deformable_attention", {1: ((4, 3), (2, 3))}, r"make 18 tokens, the tensor has 16"),
    "empty level": ("multi_scale_deformable_attention", {1: ((4, 4), (0, 2))}, r"level 1 has the shape \(0, 2\)"),
    "negative level": (
        "multi_scale_deformable_attention",
        {1: ((-3, -4), (2, 2))},
        r"level 0 has the shape \(-3, -4\)",
    ),
    "endless level": ("multi_scale_deformable_attention", {1: ((2**33, 2**31), (4, 4))}, r"more than 2\^31 tokens"),
    "value": ("multi_scale_deformable_attention", {0: torch.zeros(2, 16, 8)}, r"value must be \(B, S, M, D\)"),
    "heads": ("multi_scale_deformable_attention", {0: torch.zeros(2, 16, 3, 4)}, r"locations must be \(B, Q, M, L, P"),
    "weights": ("multi_scale_deformable_attention", {3: torch.zeros(2, 3, 2, 2, 1)}, r"weights must be .* got \[2, 3"),
    "locations": ("multi_scale_deformable_attention", {2: torch.zeros(2, 3, 2, 4, 2)}, r"must be \(B, Q, M, L, P, 2\)"),
    "half locations": (
        "multi_scale_deformable_attention",
        {2: torch.zeros(2, 3, 2, 2, 2, 2, dtype=torch.bfloat16)},
        r"locations must be Float, got BFloat16",
    ),
    "integers": (
        "multi_scale_deformable_attention",
        {0: torch.zeros(2, 16, 2, 4, dtype=torch.int32)},
        r"value must be f",
    ),
    "wide": ("multi_scale_deformable_attention", {0: torch.zeros(2, 16, 2, 300)}, r"1 to 128 channels, got 300"),
    "reference": (
        "multi_scale_deformable_attention_from_offsets",
        {2: torch.zeros(3, 3, 2)},
        r"reference must be \(2 or 1, 3, 2\), got \[3, 3, 2\]",
    ),
    "keys": ("key_aware_deformable_attention", {1: torch.zeros(3, 16, 2, 2, 5)}, r"key_value must be .* = 2, 4, got"),
    "mixed": (
        "key_aware_deformable_attention",
        {1: torch.zeros(3, 16, 2, 2, 4, dtype=torch.bfloat16)},
        r"key_value is BFloat16, query is Float",
    ),
    "slots": ("key_aware_deformable_attention", {4: torch.tensor([0, 3])}, r"slots\[1\] is 3, the ring has 3 slots"),
    "below": ("key_aware_deformable_attention", {4: torch.tensor([-1, 0])}, r"slots\[0\] is -1"),
    "slots' dtype": ("key_aware_deformable_attention", {4: torch.tensor([0.0, 1.0])}, r"slots must be int64"),
    "slots' number": (
        "key_aware_deformable_attention",
        {4: torch.tensor([0])},
        r"slots must be \(F,\) = \[2\], got \[1\]",
    ),
}


@fused
@pytest.mark.parametrize(("op", "changes", "message"), WRONG.values(), ids=list(WRONG))
def test_clear_errors(op: str, changes: dict[int, Any], message: str) -> None:
    arguments = op_cases.inputs(op, SMALL, torch.float32)
    for index, value in changes.items():
        arguments[index] = value
    with ops.use_backend("fused"), pytest.raises(RuntimeError, match=message):
        OPS[op](*arguments)


@fused
@pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="variants of x86-64")
@pytest.mark.parametrize("capability", ["default", "avx2"])
def test_older_processors(capability: str) -> None:
    """The kernels for machines without AVX-512, and without AVX2, give the same results."""
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent.parent), *sys.path])
    done = subprocess.run(
        [sys.executable, str(Path(op_cases.__file__))], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok") == 3


@fused
def test_threads_change_nothing() -> None:
    """Each gradient is added up by one thread, in one order."""
    before = torch.get_num_threads()
    try:
        for op in OPS:
            arguments = op_cases.inputs(op, Case(queries=700), torch.float32)
            found = []
            for threads in (1, 3):
                torch.set_num_threads(threads)
                found.append(op_cases.results(OPS[op], arguments, torch.float32))
            assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    finally:
        torch.set_num_threads(before)


def test_float16_on_the_cpu_is_plain_pytorch() -> None:
    for op in OPS:
        arguments = op_cases.inputs(op, SMALL, torch.float16)
        exact = [a.double() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments]
        ours = OPS[op](*arguments)
        theirs = getattr(reference, op)(*exact)
        first, second = (ours[0], theirs[0]) if isinstance(ours, tuple) else (ours, theirs)
        assert first.dtype == torch.float16
        assert op_cases.error(first, second) < 2e-3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "install a C\\+\\+ compiler"),
        ("no library", r"does not load \(it does not say for which torch it is built"),
        ("taptrv2 ops built for torch 2.4.99\0", r"does not load \(it is built for torch 2\.4\.99\)"),
        (f"taptrv2 ops built for torch {torch.__version__.split('+')[0]}\0", "does not load .*build it again"),
    ],
)
def test_missing_library_warns_once(
    content: str | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content:
        (tmp_path / f"{backend.LIBRARY_NAME}.so").write_text(content)
    monkeypatch.setattr(backend, "LIBRARY_FOLDER", tmp_path)
    monkeypatch.setattr(backend, "_loaded", None)
    monkeypatch.setattr(backend, "_failure", "")
    monkeypatch.setattr(backend, "_warned", set())
    arguments = op_cases.inputs("multi_scale_deformable_attention", SMALL, torch.float32)
    with pytest.warns(RuntimeWarning, match=reason) as caught:
        first = ops.multi_scale_deformable_attention(*arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = ops.multi_scale_deformable_attention(*arguments)
    assert len(caught) == 1
    assert "several times slower" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert torch.equal(first, second)
    with pytest.raises(RuntimeError, match=reason), ops.use_backend("fused"):
        pass


def test_unknown_backend() -> None:
    with pytest.raises(ValueError, match="'fused' or 'reference' expected, got 'cuda'"), ops.use_backend("cuda"):  # type: ignore[arg-type]
        pass
