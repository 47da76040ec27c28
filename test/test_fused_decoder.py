"""The fused window against the decoder written in PyTorch, in float32."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from taptrv2_core import PUBLISHED, SMALL, ModelConfig, Taptr
from taptrv2_core.decoder import Decoder
from taptrv2_core.fast.decoder import FusedDecoder, KeptLayer
from taptrv2_core.fast.processor import cpu_has_tiles
from taptrv2_core.ops import active_backend, use_backend
from taptrv2_core.window import EVERY, Frames, LayerOutput, Masks

LEVELS = ((16, 20), (8, 10), (4, 5), (2, 3))
NAMES = ("moved", "reference", "visibility", "hidden")
CASES = {  # frames, queries, whether every query began before them, the frame wanted
    "all tracked": (8, 37, True, None),
    "some begin later": (8, 64, False, None),
    "one frame wanted": (5, 33, False, 4),
    "one query": (8, 1, True, 2),
    "one frame": (1, 70, True, 0),
    "many queries": (3, 150, False, 1),
}

pytestmark = pytest.mark.skipif(active_backend("cpu") != "fused", reason="the fused ops are not built")


def lively(config: ModelConfig) -> Taptr:
    """A network in which every weight and bias matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Taptr(replace(config, decoder_layers=3)).requires_grad_(False)
        for name, parameter in model.transformer.decoder.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif "sampling_offsets" in name or "bbox_embed" in name:
                parameter.normal_(std=0.1)
    return model.prepare()


@pytest.fixture(scope="module", params=[SMALL, PUBLISHED], ids=["small", "published"])
def model(request: pytest.FixtureRequest) -> Taptr:
    return lively(request.param)


def both(model: Taptr, case: str) -> tuple[LayerOutput, LayerOutput]:
    """What the decoder and the fused window say."""
    frames, queries, tracked, one = CASES[case]
    decoder, channels = model.transformer.decoder, model.config.channels
    g = torch.Generator().manual_seed(1)
    memory = torch.randn(frames, sum(h * w for h, w in LEVELS), channels, generator=g)
    content, reference = (torch.randn(1, frames, queries, n, generator=g) for n in (channels, 4))
    reference = 2 * reference  # some samples lie outside
    start = torch.randint(0, 8 if tracked else 8 + frames, (1, queries), generator=g)
    masks = Masks.build(torch.arange(8, 8 + frames), start, all_tracked=tracked)
    wanted = EVERY if one is None else slice(one, one + 1)
    with torch.inference_mode():
        plain = Frames(LEVELS, decoder.project(memory), torch.arange(frames))
        fused = Frames(LEVELS, memories=memory.split(1))
        return tuple(decoder(content, reference, held, masks, wanted)[-1] for held in (plain, fused))  # type: ignore[return-value]


@pytest.mark.parametrize("case", CASES)
def test_same_answers(model: Taptr, case: str) -> None:
    plain, fused = both(model, case)
    for name in NAMES:
        expected, got = getattr(plain, name), getattr(fused, name)
        assert got.shape == expected.shape
        assert expected.std() > 1e-3
        if name == "reference":  # a logit at the border moves by a thousand times what the position does
            expected, got = expected.sigmoid(), got.sigmoid()
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("capability", ["avx2", "default"])
def test_same_answers_with_lesser_instructions(capability: str) -> None:
    """torch reads the variable once, hence a process of its own."""
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": capability}
    subprocess.run([sys.executable, __file__], env=environment, check=True, timeout=120)


@pytest.mark.skipif(not cpu_has_tiles(), reason="this processor has no AMX")
def test_same_answers_without_amx() -> None:
    """The op asks for AMX once, hence a process of its own."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}
    subprocess.run([sys.executable, __file__], env=environment, check=True, timeout=120)


def test_number_of_threads_does_not_matter() -> None:
    model = lively(SMALL)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        three = both(model, "some begin later")[1]
        torch.set_num_threads(1)
        one = both(model, "some begin later")[1]
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(getattr(three, name), getattr(one, name)) for name in NAMES)


def test_queries_do_not_depend_on_their_neighbours_in_a_block() -> None:
    """Beyond the attention between queries, which is taken away here by masks of their own."""
    model = lively(SMALL)
    decoder, channels = model.transformer.decoder, model.config.channels
    g = torch.Generator().manual_seed(2)
    content, reference = (torch.randn(1, 2, 9, n, generator=g) for n in (channels, 4))
    memories = torch.randn(2, sum(h * w for h, w in LEVELS), channels, generator=g).split(1)
    alone = Masks.build(torch.tensor([8, 9]), torch.tensor([[7] + 8 * [20]]))  # the first attends itself only
    with torch.inference_mode():
        first = decoder(content, reference, Frames(LEVELS, memories=memories), alone)[-1]
        content[:, :, 1:] = 5.0
        second = decoder(content, reference, Frames(LEVELS, memories=memories), alone)[-1]
    assert torch.equal(first.hidden[:, :, 0], second.hidden[:, :, 0])
    assert not torch.equal(first.hidden[:, :, 1], second.hidden[:, :, 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_queries_do_not_depend_on_how_many_there_are(dtype: torch.dtype) -> None:
    """Nor on their place in blocks and tiles; without attention between queries, as above."""
    model = lively(SMALL).prepare(dtype)
    decoder, channels = model.transformer.decoder, model.config.channels
    g = torch.Generator().manual_seed(5)
    content = torch.randn(1, 2, 40, channels, generator=g).to(dtype)
    reference = torch.randn(1, 2, 40, 4, generator=g)
    memories = torch.randn(2, sum(h * w for h, w in LEVELS), channels, generator=g).to(dtype).split(1)

    def first_query(count: int) -> Tensor:
        alone = Masks.build(torch.tensor([8, 9]), torch.tensor([[7] + (count - 1) * [20]]))
        given = content[:, :, :count], reference[:, :, :count]
        return decoder(*given, Frames(LEVELS, memories=memories), alone)[-1].hidden[:, :, 0]

    with torch.inference_mode():
        expected = first_query(40)
        assert all(torch.equal(first_query(count), expected) for count in (1, 7, 8, 17))


@pytest.mark.parametrize("pairs", [False, True])
def test_bfloat16_memory_is_summed_in_float32(pairs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The only rounding is that of weights, content and memory themselves; where bfloat16 is multiplied in pairs, also
    that of what goes into linear layers."""
    monkeypatch.setattr("taptrv2_core.fast.decoder.cpu_has_pairs", lambda: pairs)
    half = lively(SMALL).prepare(torch.bfloat16)
    rounded = copy.deepcopy(half).prepare(torch.float32)
    decoder, channels = half.transformer.decoder, half.config.channels
    g = torch.Generator().manual_seed(3)
    memory = torch.randn(2, sum(h * w for h, w in LEVELS), channels, generator=g).bfloat16()
    content = torch.randn(1, 2, 7, channels, generator=g).bfloat16()
    reference = torch.randn(1, 2, 7, 4, generator=g)
    masks = Masks.build(torch.tensor([8, 9]), torch.zeros(1, 7), all_tracked=True)
    with torch.inference_mode():
        got = decoder(content, reference, Frames(LEVELS, memories=memory.split(1)), masks)[-1]
        frames = Frames(LEVELS, memories=memory.float().split(1))
        expected = rounded.transformer.decoder(content.float(), reference, frames, masks)[-1]
        with use_backend("reference"):
            torchs = decoder(content, reference, Frames(LEVELS, decoder.project(memory), torch.arange(2)), masks)[-1]
    assert got.hidden.dtype == torch.bfloat16
    if not pairs:
        torch.testing.assert_close(got.reference, expected.reference, rtol=1e-5, atol=1e-5)
        return
    for name in ("moved", "reference", "visibility"):
        error, torchs_error = (
            (getattr(answer, name).float() - getattr(expected, name)).square().mean().sqrt() for answer in (got, torchs)
        )
        assert 0 < error < 0.8 * torchs_error, name


def test_what_is_kept_changes_nothing() -> None:
    """Whatever of a stream changes between windows, the answers are those of a window for which nothing was kept."""
    model = lively(SMALL)
    decoder, channels = model.transformer.decoder, model.config.channels
    g = torch.Generator().manual_seed(4)
    tokens = sum(h * w for h, w in LEVELS)
    content, reference = (torch.randn(1, 3, 9, n, generator=g) for n in (channels, 4))
    memories = list(torch.randn(4, tokens, channels, generator=g).split(1))
    start = torch.full((1, 9), 7)
    kept = KeptLayer()

    def check(decoder: Decoder = decoder) -> list[tuple[int, int]]:
        """Compares, and tells for which pairs the first layer was made anew."""
        count = content.shape[1]
        masks = Masks.build(torch.arange(7, 7 + count), start)
        rows = kept.rows(decoder.derived, memories[:count], content.shape[2])  # type: ignore[arg-type]
        before = rows.clone()
        with torch.inference_mode():
            frames = Frames(LEVELS, memories=memories[:count], kept=kept)
            got = decoder(content, reference, frames, masks)[-1]
            expected = decoder(content, reference, replace(frames, kept=None), masks)[-1]
        assert all(torch.equal(getattr(got, name), getattr(expected, name)) for name in NAMES)
        return [(f, n) for f, n in (before != rows).any(dim=-1).nonzero().tolist()]

    every = [(f, n) for f in range(3) for n in range(9)]
    assert check() == every
    assert check() == []
    content[0, 1, 4] += 1
    reference[0, 2, 8, 3] += 1
    assert check() == [(1, 4), (2, 8)]
    start[0, 6] = 8  # no longer updated in frame 8
    assert check() == [(1, 6)]
    memories[2] = memories[2] + 1
    assert check() == [(2, n) for n in range(9)]
    content, reference = (torch.cat((t, t[:, :1]), dim=1) for t in (content, reference))
    assert len(check()) == 4 * 9
    content, reference, start = content[:, :, 1:], reference[:, :, 1:], start[:, 1:]
    assert len(check()) == 4 * 8
    other = copy.deepcopy(decoder)
    other.layers[0].norm1.weight.data *= 2
    other.derive()
    assert len(check(other)) == 4 * 8


def test_where_it_is_used() -> None:
    decoder = lively(SMALL).transformer.decoder
    assert decoder.reads_memory
    with use_backend("reference"):
        assert not decoder.reads_memory
    assert not decoder.train().reads_memory
    odd = Taptr(replace(SMALL, channels=64)).prepare()
    assert not odd.transformer.decoder.reads_memory
    assert not Taptr(SMALL).prepare(torch.float64).transformer.decoder.reads_memory


def arguments(fused: FusedDecoder | None) -> dict[str, object]:
    """Of the op, for two frames and three queries."""
    assert fused is not None
    return {
        "content": torch.zeros(2, 3, 128),
        "reference": torch.zeros(2, 3, 4),
        "memories": [torch.zeros(sum(h * w for h, w in LEVELS), 128) for _ in range(2)],
        "level_shapes": [size for shape in LEVELS for size in shape],
        "updated": torch.ones(2, 3, dtype=torch.bool),
        "tracked": None,
        "wanted": -1,
        "kept": None,
        "waves": fused.waves,
        "parameters": fused.parameters,
        "sizes": fused.sizes,
    }


@pytest.mark.parametrize("wanted", [-1, 1])
@pytest.mark.parametrize("keeps", [False, True])
def test_opcheck(wanted: int, keeps: bool) -> None:
    given = arguments(lively(SMALL).transformer.decoder.derived)
    given |= {"wanted": wanted, "kept": torch.zeros(2, 3, 776) if keeps else None}
    torch.library.opcheck(torch.ops.taptrv2.decode_window.default, tuple(given.values()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memories": [torch.zeros(426, 128)]}, "2 frames, but memory of 1"),
        ({"level_shapes": [16, 20]}, r"a frame's memory must be a contiguous CPU tensor \[320, 128\]"),
        ({"sizes": [4, 4, 4, 512, 1]}, "too few parameters"),
        ({"sizes": [4, 4, 2, 512, 1]}, "parameters too many"),
        ({"sizes": [8, 4, 3, 512, 1]}, "heads must have 32 channels"),
        ({"sizes": [4, 4, 3, 512, 2]}, "weights are floats, or pairs in bfloat16 as memory"),
        ({"kept": torch.zeros(2, 3, 775)}, r"kept must be a contiguous CPU tensor \[2, 3, 776\]"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, object], message: str) -> None:
    given = arguments(lively(SMALL).transformer.decoder.derived)
    given.update(change)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.taptrv2.decode_window(*given.values())


if __name__ == "__main__":
    torch.set_num_threads(1)
    small = lively(SMALL)
    for each in ("some begin later", "one frame wanted"):
        test_same_answers(small, each)
    with pytest.MonkeyPatch.context() as patch:
        test_bfloat16_memory_is_summed_in_float32(True, patch)
