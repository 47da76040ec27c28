"""The search for lost points over the whole image."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny import TINY, tiny_model
from torch import Tensor
from torch.nn import functional as F

from taptrv2_core import Taptr, Tracker
from taptrv2_core.engine import SlidingWindow
from taptrv2_core.evaluation.adapter import StreamingTaptr
from taptrv2_core.evaluation.generated import synthetic_dataset
from taptrv2_core.evaluation.metrics import position_errors
from taptrv2_core.flow import FlowImage
from taptrv2_core.search import LEAST, enlarged, halved
from taptrv2_core.training.losses import Truth
from taptrv2_core.training.opinions import fit_opinions
from taptrv2_core.training.searching import search_loss
from taptrv2_core.training.unroll import encode_clips

PLACES = torch.tensor([[0.3, 0.3], [0.7, 0.4], [0.45, 0.75], [0.2, 0.6]])
ELSEWHERE = torch.tensor([[0.9, 0.9], [0.1, 0.1], [0.9, 0.1], [0.9, 0.5]])


def truth(visible: Tensor) -> Truth:
    """Four points that stay where they are in two frames; visible (4,) in the second."""
    seen = torch.stack((torch.ones(4, dtype=torch.bool), visible)).unsqueeze(0)
    start = torch.zeros(1, 4, dtype=torch.int64)
    return Truth(PLACES.expand(1, 2, 4, 2), seen, torch.ones_like(seen), start)


def video() -> Tensor:
    torch.manual_seed(1)
    return torch.rand(1, 1, 3, 64, 64).expand(1, 2, 3, 64, 64)


def trained(visible: Tensor) -> Taptr:
    """A network whose search alone has learned one image by heart."""
    model = tiny_model(config=replace(TINY, motion="flow", search=True))
    assert model.search is not None
    model.search.requires_grad_(True)
    encoded = encode_clips(model, video())
    optimizer = torch.optim.Adam(model.search.parameters(), lr=0.01)
    losses = []
    for _ in range(80):
        optimizer.zero_grad()
        loss = search_loss(model, encoded, truth(visible))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def model() -> Taptr:
    return trained(torch.tensor([True, True, True, False]))


def test_lost_points_are_found_and_hidden_ones_left(model: Taptr) -> None:
    assert model.search is not None
    memory = model.encode(video()[0, :1])
    initial = model.initial_content(memory, PLACES[None])
    found = model.search.find(memory.tokens, memory.level_shapes, model.search.ask(initial), ELSEWHERE[None])[0]
    assert (found - PLACES)[:3].abs().max() < 1 / 16  # a cell of level 0
    assert torch.equal(found[3], ELSEWHERE[3])


def test_points_near_where_they_are_likely_stay(model: Taptr) -> None:
    assert model.search is not None
    memory = model.encode(video()[0, :1])
    initial = model.initial_content(memory, PLACES[None])
    found = model.search.find(memory.tokens, memory.level_shapes, model.search.ask(initial), PLACES[None])
    assert torch.equal(found, PLACES[None])


def test_the_shares_of_all_cells_and_nowhere_add_up(model: Taptr) -> None:
    assert model.search is not None
    memory = model.encode(video()[0, :1])
    shares = model.search(memory.tokens, memory.level_shapes, model.initial_content(memory, PLACES[None]))
    assert shares.shape == (1, 4, 16 * 16 + 1)
    torch.testing.assert_close(shares.exp().sum(-1), torch.ones(1, 4))


def test_a_frame_begins_where_a_lost_point_is_found(model: Taptr) -> None:
    engine = SlidingWindow(model)
    image = video()[0, 0]
    grey = FlowImage.of_input(image)
    with torch.inference_mode():
        engine.push(image)
        engine.add(PLACES[:3], 0)
        assert engine._motion is not None
        engine._motion.answer(ELSEWHERE[:3], torch.zeros(3, dtype=torch.bool))  # hidden, and last elsewhere
        engine.push_memory(model.encode(image[None]), grey)
    assert engine.state is not None
    begun = engine.state.reference[0, 1, :, :2].sigmoid()
    assert (begun - PLACES[:3]).abs().max() < 1 / 16


def test_answers_agree_where_the_point_is_likely(model: Taptr) -> None:
    assert model.search is not None
    memory = model.encode(video()[0, :1])
    asked = model.search.ask(model.initial_content(memory, PLACES[None]))
    there, elsewhere = (
        model.search.agreement(memory.tokens, memory.level_shapes, asked, places[None])[0, :, 0]
        for places in (PLACES, ELSEWHERE)
    )
    assert there[:3].min() > math.log(0.5)
    assert elsewhere.max() < math.log(0.1) and there[3] < math.log(0.1)
    assert elsewhere.min() >= math.log(LEAST) - 1e-4


def test_what_does_not_agree_is_called_hidden(model: Taptr) -> None:
    """A network that calls every point visible and does not move it; one that begins elsewhere is found out."""
    model = copy.deepcopy(model)
    assert model.search is not None
    for head, box in zip(model.class_embed, model.bbox_embed, strict=True):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.constant_(head.bias, 1.0)
        torch.nn.init.zeros_(box.layers[-1].weight)
        torch.nn.init.zeros_(box.layers[-1].bias)
    model.search.opinions.copy_(torch.tensor((1.0, 1.0, 1.0)))
    tracker = Tracker(model)
    image = (video()[0, 0].permute(1, 2, 0) * 255).to(torch.uint8).numpy()
    tracker.step(image)
    size = np.array([64, 64])
    tracker.add_points(PLACES.numpy() * size)
    assert tracker._engine._motion is not None
    places = torch.cat((PLACES[:2], ELSEWHERE[2:]))
    tracker._engine._motion.answer(places, torch.ones(4, dtype=torch.bool))
    tracks = tracker.step(image)
    np.testing.assert_allclose(tracks.xy, places.numpy() * size, atol=3)
    assert tracks.visible.tolist() == [True, True, False, False]
    assert tracker._engine._motion._visible.all()  # flow goes on with what the network itself says


@pytest.mark.parametrize("shape", [(2, 3), (5, 8), (1, 1)])
def test_enlarged_and_halved_as_torch_does(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    image = torch.rand(1, *shape, 4)
    channels = image.permute(0, 3, 1, 2)
    size = (shape[0] * 4, shape[1] * 2)
    expected = F.interpolate(channels, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(enlarged(channels, size), expected)
    padded = F.pad(channels, (0, shape[1] % 2, 0, shape[0] % 2), mode="replicate")
    torch.testing.assert_close(halved(image).permute(0, 3, 1, 2), F.avg_pool2d(padded, 2))


def test_opinions_are_fitted_and_tracks_stay() -> None:
    model = tiny_model(config=replace(TINY, motion="flow", search=True))
    assert model.search is not None
    samples = list(synthetic_dataset(2, frames=10, size=64, points=16, seed=5).samples)
    before = [StreamingTaptr(model).track(s.video, s.query_frame, s.query_xy) for s in samples]
    opinions = fit_opinions(model, samples)
    torch.testing.assert_close(model.search.opinions, opinions.float())
    assert opinions.tolist() != [1, 0, 0]
    wrong = []
    for sample, old in zip(samples, before, strict=True):
        new = StreamingTaptr(model).track(sample.video, sample.query_frame, sample.query_xy)
        np.testing.assert_array_equal(new.xy, old.xy)
        near = position_errors(old.xy, sample.gt_xy, sample.frame_size) < 32
        wrong.append([(result.visible != (sample.gt_visible & near)).mean() for result in (old, new)])
    old_wrong, new_wrong = np.mean(wrong, axis=0)
    assert new_wrong < old_wrong


def test_only_the_search_learns_to_search() -> None:
    model = tiny_model(config=replace(TINY, motion="flow", search=True)).requires_grad_(True)
    search_loss(model, encode_clips(model, video()), truth(torch.ones(4, dtype=torch.bool))).backward()
    learning = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learning == {name for name, _ in model.named_parameters() if name.startswith("search.")}
