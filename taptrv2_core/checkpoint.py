"""Weights: the shipped ones, files of this project, and the published checkpoint."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from taptrv2_core.config import CONFIGS, PUBLISHED, ModelConfig
from taptrv2_core.errors import CheckpointError
from taptrv2_core.fast.inference import choose_dtype
from taptrv2_core.model import Taptr

WEIGHTS = Path(__file__).parent / "weights"
NAMES_SHOWN = 5


def load_model(
    weights: str | Path = "small",
    device: str | torch.device = "auto",
    input_size: tuple[int, int] | None = None,
    dtype: str | torch.dtype = "float32",
) -> Taptr:
    """A network ready to track.

    Args:
        weights: a shipped name ("small") or a checkpoint file, of this project or the published one.
        device: "cpu", "cuda", "cuda:1", ...; "auto" takes the GPU if there is one.
        input_size: (height, width) images are resized to before the network; the weights' own if None.
        dtype: of weights and features, "float32", "bfloat16" or "float16"; "auto", the fastest that fits: float16 on a
            GPU, bfloat16 on a CPU with instructions for it, else float32. Positions are float32 in any case.

    Raises:
        CheckpointError: no such file, not a checkpoint, or its tensors are not this network's.
        ValueError: the device is unknown or not there, the dtype is unknown, or the input size is below 32.
    """
    target = usable_device(device)
    kind = choose_dtype(dtype, target)
    if input_size is not None and min(input_size) < 32:
        raise ValueError(f"input_size is {input_size}; height and width must be at least 32")
    model = _shipped(str(weights)) if str(weights) in CONFIGS else _from_file(Path(weights))
    if input_size is not None:
        model.config = replace(model.config, input_size=input_size)
    return model.to(target).prepare(kind)


def save_checkpoint(model: Taptr, path: str | Path) -> None:
    """Write weights in half precision, with the configuration, as `load_model` reads them."""
    halves: dict[int, Tensor] = {}
    state = {}
    for name, tensor in model.state_dict().items():
        key = tensor.data_ptr()
        if not tensor.is_floating_point():
            state[name] = tensor.cpu()
            continue
        state[name] = halves.setdefault(key, tensor.detach().to("cpu", torch.float16)) if key else tensor.half()
    torch.save({"config": asdict(model.config), "model": state}, path)


def usable_device(device: str | torch.device) -> torch.device:
    """A device that is there; "auto": the GPU if there is one. Raises ValueError."""
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        target = torch.device(device)
        torch.empty(0, device=target)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"device '{device}' cannot be used: {reason} Use 'auto', 'cpu' or 'cuda'.") from error
    return target


def _shipped(name: str) -> Taptr:
    path = WEIGHTS / f"{name}.pt"
    if path.is_file():
        return _from_file(path)
    if name == PUBLISHED.name:
        raise CheckpointError(
            "the published weights are not shipped (their licence allows non-commercial research only): download "
            "taptrv2.pth as the README says and give the file's path instead of the name 'published'"
        )
    warnings.warn(
        f"no weights are shipped yet for '{name}': the network is untrained and its tracks mean nothing",
        RuntimeWarning,
        stacklevel=3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Taptr(CONFIGS[name])


def _from_file(path: Path) -> Taptr:
    content = _read(path)
    config = _config(content, path)
    key = next((k for k in ("ema_model", "model") if k in content), None)
    if key is None or not isinstance(content[key], Mapping):
        found = sorted(map(str, content))[:NAMES_SHOWN]
        raise CheckpointError(f"{path}: no weights in it: expected an entry 'model' or 'ema_model', found {found}")
    state = {str(name).removeprefix("module."): tensor for name, tensor in content[key].items()}
    model = Taptr(config)
    _compare(state, model.state_dict(), path)
    model.load_state_dict(state)
    model.trained = True
    model.source = str(path)
    return model


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in WEIGHTS.glob("*.pt"))) or "none"
        raise CheckpointError(f"{path}: no such file. Give a checkpoint file or a shipped name ({shipped}).")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types for damaged files
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if isinstance(error, UnpicklingError):  # PyTorch's reason advises to run whatever code is in the file
            reason = "it holds something else than tensors and numbers"
        raise CheckpointError(
            f"{path}: cannot be read as a PyTorch checkpoint; it is damaged, incomplete or of another kind ({reason})"
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}; expected a dict with 'model' or 'ema_model'")
    return content


def _config(content: Mapping[str, Any], path: Path) -> ModelConfig:
    """The configuration in a file of this project; the published checkpoint has none."""
    if "config" not in content:
        return PUBLISHED
    values = content["config"]
    known = {f.name for f in fields(ModelConfig)}
    if not isinstance(values, Mapping) or not set(values) <= known:
        raise CheckpointError(f"{path}: its configuration is not one of this version: {values}")
    arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        return ModelConfig(**arguments)
    except TypeError as error:
        raise CheckpointError(f"{path}: its configuration is incomplete: {error}") from error


def _compare(found: Mapping[str, Any], expected: Mapping[str, Tensor], path: Path) -> None:
    """Refuse anything but exactly the expected tensors, naming the first that differ."""
    problems = {
        "missing": [n for n in expected if n not in found],
        "unexpected": [n for n in found if n not in expected],
        "of another shape": [],
        "not finite": [],
    }
    for name, tensor in expected.items():
        value = found.get(name)
        if value is None:
            continue
        if not isinstance(value, Tensor) or value.shape != tensor.shape:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            problems["of another shape"].append(f"{name} {shape} instead of {tuple(tensor.shape)}")
        elif not bool(torch.isfinite(value).all()):
            problems["not finite"].append(name)
    parts = [f"{len(n)} {what}: {', '.join(n[:NAMES_SHOWN])}" for what, n in problems.items() if n]
    if parts:
        raise CheckpointError(f"{path}: not the weights of this network; tensors " + "; ".join(parts))
