"""What `Taptr.prepare` and `load_model` make of a network: the same answers, faster."""

from __future__ import annotations

import copy
import platform
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import TINY, tiny_model

from taptrv2_core import PUBLISHED, ModelConfig, Taptr, Tracker, load_model, save_checkpoint
from taptrv2_core.backbone import Backbone
from taptrv2_core.fast.inference import choose_dtype, folded
from taptrv2_core.fast.prepared import FusedConv, Prepared
from taptrv2_core.fast.processor import cpu_has_bfloat16


def textured(count: int, size: int = 160) -> list[np.ndarray]:
    """A texture that slides by (1.5, 1) pixels a frame."""
    noise = np.random.default_rng(3).uniform(0, 255, (size + 64, size + 64, 3)).astype(np.float32)
    texture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    shifts = [np.float32([[1, 0, -1.5 * t], [0, 1, -t]]) for t in range(count)]
    return [cv2.warpAffine(texture, shift, (size, size)).astype(np.uint8) for shift in shifts]


def tracks(model: Taptr, frames: list[np.ndarray]) -> np.ndarray:
    """(T, N, 2) streaming positions of a grid of points."""
    tracker = Tracker(model)
    tracker.add_points([(x, y) for x in range(20, 150, 24) for y in range(20, 150, 24)])
    return np.stack([tracker.step(frame).xy for frame in frames])


def with_statistics(backbone: Backbone) -> Backbone:
    """Batch norms that do something."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in backbone.state_dict().items():
        if "bn" in name or "downsample.1" in name:
            if name.endswith(("weight", "running_var")):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.is_floating_point():
                tensor.normal_(0, 0.2, generator=generator)
    return backbone.eval()


@pytest.mark.parametrize("config", [TINY, PUBLISHED], ids=["compact", "resnet50"])
def test_folded_backbone_gives_the_same_features(config: ModelConfig) -> None:
    backbone = with_statistics(Backbone(config))
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = backbone(images)
        fast = folded(backbone, torch.float32)
        assert not any(hasattr(module, "running_var") for module in fast.modules())
        for _ in range(2):  # another size packs anew
            for level, wanted in zip(fast(images), expected, strict=True):
                torch.testing.assert_close(level, wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
            images = images[:, :, :48]
            expected = backbone(images)


def test_a_fused_convolution_is_the_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where cuDNN has a kernel for it, here in its place what that is to do; and where it has none."""
    g = torch.Generator().manual_seed(0)
    conv = torch.nn.Conv2d(3, 4, 3, stride=2, padding=1).requires_grad_(False)
    x, add = torch.randn(1, 3, 8, 8, generator=g), torch.randn(1, 4, 4, 4, generator=g)

    def cudnn(x: torch.Tensor, weight: torch.Tensor, *given: object) -> torch.Tensor:
        *_, bias, stride, padding, dilation, groups = given
        y = torch.nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups)  # type: ignore[arg-type]
        return (y + given[0] * given[1] if len(given) == 7 else y).relu()  # type: ignore[operator]

    for there in (False, True):
        if there:
            monkeypatch.setattr(torch, "cudnn_convolution_relu", cudnn)
            monkeypatch.setattr(torch, "cudnn_convolution_add_relu", cudnn)
        fused = FusedConv(conv)
        torch.testing.assert_close(fused(x), conv(x))
        torch.testing.assert_close(fused(x, relu=True), conv(x).relu())
        torch.testing.assert_close(fused(x, relu=True, add=add), (conv(x) + add).relu())
        assert fused.fused == there


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_prepared_network_tracks_the_same(dtype: torch.dtype) -> None:
    plain, fast = tiny_model(dtype=dtype), tiny_model(dtype=dtype).prepare()
    assert any(module.derived is not None for module in fast.modules() if isinstance(module, Prepared))
    frames = textured(13)
    np.testing.assert_allclose(tracks(fast, frames), tracks(plain, frames), atol=2e-3)


def test_bfloat16_tracks_nearly_the_same() -> None:
    """Streaming positions of the small network, in pixels of an image of 256 x 256."""
    frames = textured(13)
    exact = tracks(load_quietly("float32"), frames)
    rounded = tracks(load_quietly("bfloat16"), frames)
    assert np.abs(exact - exact[:1]).max() > 1, "the points do not move: nothing is compared"
    difference = np.linalg.norm(exact - rounded, axis=-1) * (256 / 160)
    assert np.median(difference) < 0.3
    assert np.percentile(difference, 95) < 1.5


def test_bfloat16_on_a_processor_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """oneDNN packs no weights in bfloat16 on a Raspberry Pi 5, nor on x86 without AVX-512."""

    def refuse(*_: object) -> None:
        raise RuntimeError("bf16 path needs the cpu support avx_ne_convert or avx512bw, avx512vl and avx512dq")

    frames = textured(2)
    expected = tracks(tiny_model(dtype=torch.bfloat16).prepare(), frames)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    for name in ("_reorder_linear_weight", "_reorder_convolution_weight"):
        monkeypatch.setattr(torch.ops.mkldnn, name, refuse)
    found = tracks(tiny_model(dtype=torch.bfloat16).prepare(), frames)
    np.testing.assert_allclose(found, expected, atol=1)


def load_quietly(dtype: str) -> Taptr:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the weights may be untrained
        model = load_model("small", device="cpu", dtype="float32")
    if not model.trained:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for head in model.bbox_embed:
                torch.nn.init.normal_(head.layers[-1].weight, std=0.1)
    return model.prepare(getattr(torch, dtype))


def derived(model: Taptr) -> Iterator[object]:
    return (module.derived for module in model.modules() if isinstance(module, Prepared))


def test_what_is_derived_goes_with_the_weights(tmp_path: Path) -> None:
    model = tiny_model().prepare()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert state.keys() == tiny_model().state_dict().keys()
    for change in (
        lambda: model.load_state_dict(tiny_model(seed=1).state_dict()),
        lambda: model.train(),
        lambda: model.double(),
    ):
        model.float().prepare()
        assert model.derived is not None
        change()
        assert all(kept is None for kept in derived(model))
    copied = copy.deepcopy(tiny_model().prepare())
    assert all(kept is None for kept in derived(copied))
    save_checkpoint(tiny_model().prepare(), tmp_path / "saved.pt")
    again = load_model(tmp_path / "saved.pt", device="cpu", dtype="float32").state_dict()
    assert all(torch.equal(again[name], value.half().to(value.dtype)) for name, value in state.items())


def test_dtype_is_chosen_or_refused(tmp_path: Path) -> None:
    save_checkpoint(tiny_model(), tmp_path / "w.pt")
    assert load_model(tmp_path / "w.pt", device="cpu").dtype == torch.float32
    auto = load_model(tmp_path / "w.pt", device="cpu", dtype="auto")
    assert auto.dtype == (torch.bfloat16 if cpu_has_bfloat16() else torch.float32)
    assert auto.position_dtype == torch.float32
    assert load_model(tmp_path / "w.pt", device="cpu", dtype=torch.float64).dtype == torch.float64
    assert choose_dtype("auto", torch.device("cuda")) == torch.float16
    with pytest.raises(ValueError, match="dtype is 'int8'; expected 'auto', 'float32', 'bfloat16', 'float16'"):
        load_model(tmp_path / "w.pt", device="cpu", dtype="int8")


def test_freed_memory_is_kept_where_asked() -> None:
    """Big tensors made again and again cost no page faults; in a process of its own, which the setting is for."""
    script = """if True:
        import resource, sys, torch
        from taptrv2_core.startup import keep_freed_memory
        assert keep_freed_memory()
        for round in range(6):  # until the heap has places for what is asked for
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(4):
                torch.ones(16_000_000)
            print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("a setting of glibc")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    first, *_, last = map(int, done.stdout.split())
    assert last < 1000 < first, "64 MB are 15625 pages"
