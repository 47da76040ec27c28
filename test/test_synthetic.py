"""Procedural clips: the tracks are those of the pixels, and the contents are what the configuration says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from taptrv2_core.synthetic import ClipConfig, ClipGenerator, Clips
from taptrv2_core.synthetic.atlas import Atlas, photo_textures
from taptrv2_core.synthetic.dice import Dice
from taptrv2_core.synthetic.layered import build_layered
from taptrv2_core.synthetic.points import choose, follow
from taptrv2_core.synthetic.render import Frame, render
from taptrv2_core.synthetic.rooms import build_rooms
from taptrv2_core.synthetic.scene import BALL, BOX, Scene, image_boxes, unbend, waves
from taptrv2_core.synthetic.shapes import outlines
from taptrv2_core.synthetic.textures import HELDOUT, TRAIN
from taptrv2_core.synthetic.trace import Tracer, locate

SMALL = ClipConfig(frames=6, height=80, width=112, points=32, textures=8, texture_size=128, photos=False)
CLEAN = dataclasses.replace(SMALL, photometric=False)
KINDS = pytest.mark.parametrize("solid", [0.0, 1.0], ids=["layered", "rooms"])


def _fields(clips: Clips) -> list[Tensor]:
    return [getattr(clips, f.name) for f in dataclasses.fields(clips)]


def _at_query(clips: Clips) -> Tensor:
    where = clips.query_frame[:, None, :, None].expand(-1, -1, -1, 2)
    return clips.xy.gather(1, where)


@KINDS
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_batch_is_well_formed(solid: float, split: str) -> None:
    config = dataclasses.replace(SMALL, share_3d=solid, split=split)
    clips = ClipGenerator(config, seed=1).sample(3)
    assert clips.video.shape == (3, 6, 3, 80, 112)
    assert clips.video.dtype == torch.float32
    assert clips.video.min() >= 0
    assert clips.video.max() <= 1
    assert clips.video.flatten(1).std(1).min() > 0.01
    assert clips.xy.shape == (3, 6, 32, 2)
    assert clips.xy.isfinite().all()
    assert not (clips.visible & ~clips.inside).any()
    x, y = clips.xy.unbind(-1)
    within = (x >= -0.5) & (x < 111.5) & (y >= -0.5) & (y < 79.5)
    assert not (clips.inside & ~within).any()
    assert clips.visible.gather(1, clips.query_frame[:, None]).all()
    assert (clips.query_frame == 0).float().mean() > 0.2


def test_same_seed_and_index_give_the_same_clips() -> None:
    first = ClipGenerator(SMALL, seed=7)
    one, two = first.sample(2), first.sample(2)
    again = ClipGenerator(SMALL, seed=7)
    again.restore({"seed": 7, "index": 1})
    for left, right in zip(_fields(two), _fields(again.sample(2)), strict=True):
        assert torch.equal(left, right)
    assert not torch.equal(one.video, two.video)
    assert not torch.equal(one.video, ClipGenerator(SMALL, seed=8).sample(2).video)
    assert first.state() == again.state()
    with pytest.raises(ValueError, match="seed"):
        again.restore({"seed": 8, "index": 0})


def test_pool_is_refreshed_alike_whether_stepped_or_jumped() -> None:
    config = dataclasses.replace(SMALL, refresh_every=1, textures=4)
    stepped, jumped = Atlas(config, "cpu", 3), Atlas(config, "cpu", 3)
    stepped.refresh(0)
    start = stepped.image.clone()
    for batch in range(1, 7):
        stepped.refresh(batch)
    jumped.refresh(6)
    assert torch.equal(stepped.image, jumped.image)
    assert not torch.equal(stepped.image, start)


@KINDS
def test_colour_under_a_visible_point_stays(solid: float) -> None:
    """Without photometric effects. Bilinear sampling of sharp texture and smoothed edges cost a little; the bounds are
    about twice what was measured."""
    generator = ClipGenerator(dataclasses.replace(CLEAN, share_3d=solid, speed=(0.3, 1.0)), seed=2)
    errors = []
    for _ in range(4):
        clips = generator.sample(1)
        grid = (clips.xy[0] * 2 + 1) / torch.tensor([112, 80]) - 1
        colour = grid_sample(clips.video[0], grid[:, None], align_corners=False, padding_mode="border")[:, :, 0]
        query = colour.gather(0, clips.query_frame[0][None, None].expand(1, 3, -1))
        errors.append((colour - query).abs().amax(1)[clips.visible[0]])
    error = torch.cat(errors)
    assert error.median() < 0.01
    assert error.quantile(0.9) < 0.1


@dataclasses.dataclass
class Made:
    """A batch of one clip with what is behind it."""

    scene: Scene
    tracer: Tracer
    index: Tensor
    query: Tensor
    pixel: Tensor
    xy: Tensor
    visible: Tensor
    inside: Tensor


def _make(build: Callable[..., Scene], seed: int) -> Made:
    frame = Frame(CLEAN.height, CLEAN.width, "cpu")
    atlas = Atlas(CLEAN, "cpu", 0)
    atlas.refresh(0)
    scene = build(Dice(seed), CLEAN, atlas, torch.tensor([1.5], dtype=torch.float64))
    tracer = Tracer(scene.to("cpu", torch.float32), outlines("train", "cpu"))
    boxes = image_boxes(scene, frame.half, CLEAN.height, CLEAN.width)
    video, seen = render(tracer, atlas, frame, boxes, None, True)
    assert torch.equal(seen, tracer.nearest(frame.d)[1])  # tracing objects only within their bounds loses nothing
    source = torch.Generator().manual_seed(seed)
    chosen = choose(CLEAN, tracer, frame, video[None], seen[None], source)
    xy, visible, inside = follow(CLEAN, scene, tracer, frame, chosen)
    return Made(scene, tracer, chosen[1], chosen[0], chosen[2], xy[0], visible[0], inside[0])


@pytest.mark.parametrize("build", [build_layered, build_rooms])
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_flags_agree_with_what_is_nearest(build: Callable[..., Scene], seed: int) -> None:
    made = _make(build, seed)
    frame = Frame(CLEAN.height, CLEAN.width, "cpu")
    key, index = (t[:, 0] for t in made.tracer.nearest(frame.to_rays(made.xy)))
    own = made.index.expand_as(index)
    assert (index == own)[made.visible].float().mean() > 0.99
    covered = made.inside & ~made.visible
    if made.scene.layered:
        assert (index > own)[covered].all()  # the object seen lies in a layer before the point's own
    else:
        assert (key.double() * _depths(made) > 1)[covered].all()  # something nearer: another object, or another side
    # the track passes through the pixel that was drawn
    at_query = made.xy.gather(0, made.query[0][None, :, None].expand(1, -1, 2))[0]
    assert (at_query - made.pixel[0]).abs().max() < 1e-3


def test_hidden_points_in_rooms_have_a_solid_before_them() -> None:
    """Walk from the eye to each point and look whether a box or a ball is entered on the way: another reckoning than
    the tracer's."""
    frame = Frame(CLEAN.height, CLEAN.width, "cpu")
    steps = torch.linspace(0.02, 0.995, 600, dtype=torch.float64)
    found = []
    for seed in range(1, 7):
        made = _make(build_rooms, seed)
        solid = [k for k, kind in enumerate(made.scene.kinds) if kind in (BOX, BALL)]
        back, kinds = made.scene.back[:, solid], torch.tensor([made.scene.kinds[k] for k in solid])
        along = back[..., :3] @ frame.to_rays(made.xy.double())[:, None, :, 0]  # (T, K, 3, N)
        q = (steps * _depths(made)[:, None, None, :, None]) * along[..., None] + back[..., 3, None, None]
        cube, ball = q.abs().amax(2) < 0.99, q.square().sum(2) < 0.98
        entered = torch.where((kinds == BALL)[None, :, None, None], ball, cube).any(3).any(1)  # (T, N)
        assert not (entered & made.visible).any()
        index = made.tracer.nearest(frame.to_rays(made.xy))[1][:, 0]
        found.append(entered[made.inside & ~made.visible & torch.isin(index, torch.tensor(solid))])
    hidden = torch.cat(found)
    assert len(hidden) > 30
    assert hidden.float().mean() > 0.85  # rays through a solid's edge slip between the steps


def _depths(made: Made) -> Tensor:
    """Depth (T, N) of the points, from their places on the objects: an affine map, without the tracer."""
    at = made.query[0]
    scene = made.scene.take(at)
    frame = Frame(CLEAN.height, CLEAN.width, "cpu")
    d = frame.to_rays(made.pixel[0][:, None].double())
    key = made.tracer.nearest(frame.to_rays(made.pixel.expand(CLEAN.frames, -1, -1)))[0][at, 0, torch.arange(len(at))]
    p, q, r, _ = locate(scene, d, key.double()[:, None, None], made.index.T[..., None])
    place = torch.cat((p, q, r, torch.ones_like(p)), 1)[..., 0]
    pose = made.scene.pose[:, made.index[0]]  # (T, N, 3, 4)
    return (pose @ place[None, ..., None])[..., 2, 0]


def test_bending_is_inverted() -> None:
    bend = build_layered(Dice(5), CLEAN, _filled_atlas(), torch.ones(1, dtype=torch.float64)).bend
    u, v = Dice(6).uniform(-1, 1, 2, *bend.shape[:2])
    p, q = unbend(bend, u, v)
    dp, dq = waves(bend, p, q)
    assert (bend[..., :2].abs().sum() > 0).item()
    assert torch.allclose(p + dp, u, atol=1e-9)
    assert torch.allclose(q + dq, v, atol=1e-9)


def _filled_atlas() -> Atlas:
    atlas = Atlas(CLEAN, "cpu", 0)
    atlas.refresh(0)
    return atlas


@KINDS
@pytest.mark.parametrize("photometric", [False, True], ids=["clean", "photometric"])
def test_optical_flow_agrees_on_slow_clips(solid: float, photometric: bool) -> None:
    config = ClipConfig(
        4, 128, 128, 64, share_3d=solid, speed=(0.05, 0.1), photometric=photometric, textures=12, photos=False
    )
    generator = ClipGenerator(config, seed=3)
    gaps = []
    for _ in range(4):
        clips = generator.sample(1)
        grey = [cv2.GaussianBlur(f, (0, 0), 0.7) for f in clips.video[0].mean(1).numpy()]
        images = [(g * 255).round().astype(np.uint8) for g in grey]
        for t in range(config.frames - 1):
            both = (clips.visible[0, t] & clips.visible[0, t + 1]).numpy()
            start, end = clips.xy[0, t].numpy()[both], clips.xy[0, t + 1].numpy()[both]
            gaps.append(_flow(images[t], images[t + 1], start) - end)
    gap = np.concatenate(gaps)
    gap = gap[np.isfinite(gap).all(1)]
    assert len(gap) > 200
    if not photometric:
        assert np.median(np.linalg.norm(gap, axis=1)) < 0.05
    # blur, noise and compression scatter the flow but do not shift it
    assert np.abs(np.median(gap, axis=0)).max() < (0.05 if photometric else 0.01)


def _flow(before: np.ndarray, after: np.ndarray, start: np.ndarray) -> np.ndarray:
    options = {"winSize": (11, 11), "maxLevel": 2, "criteria": (3, 50, 0.001), "minEigThreshold": 2e-3}
    end, found, _ = cv2.calcOpticalFlowPyrLK(before, after, start[:, None], None, **options)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(after, before, end, None, **options)
    good = (found[:, 0] == 1) & (found_back[:, 0] == 1) & (np.linalg.norm(back[:, 0] - start, axis=1) < 0.1)
    return np.where(good[:, None], end[:, 0], np.nan)


def test_contents() -> None:
    config = ClipConfig(height=64, width=64, points=64, textures=16, texture_size=64, photos=False, antialias=False)
    assert config.share_3d >= 0.5
    generator = ClipGenerator(config, seed=4)
    hidden, distance = [], []
    for _ in range(4):
        clips = generator.sample(6)
        hidden.append((~clips.visible).float().mean())
        distance.append((clips.xy - _at_query(clips)).norm(dim=-1)[clips.visible] * 256 / 64)
    moved = torch.cat(distance)
    assert 0.15 < torch.stack(hidden).mean() < 0.35
    assert (moved > 16).float().mean() > 0.25
    assert (moved > 32).float().mean() > 0.1
    assert (moved < 4).float().mean() > 0.05


def test_splits_share_nothing() -> None:
    assert not set(TRAIN) & set(HELDOUT)
    assert not {f for f, _ in TRAIN.values()} & {f for f, _ in HELDOUT.values()}
    ours, others = outlines("train", "cpu"), outlines("heldout", "cpu")
    assert (torch.cdist(ours.flatten(1), others.flatten(1)).amin(1) > 1).all()
    atlases = [Atlas(dataclasses.replace(SMALL, split=split), "cpu", 0) for split in ("train", "heldout")]
    for atlas in atlases:
        atlas.refresh(0)
    assert not torch.equal(atlases[0].image, atlases[1].image)
    assert Dice(3, 0, 0).seed != Dice(4, 0, 0).seed


def test_photographs_are_images() -> None:
    for image in photo_textures():
        assert image.shape[0] == 3
        assert min(image.shape[1:]) >= 256
        assert image.min() >= 0
        assert 0.5 < image.max() <= 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"frames": 0}, "positive"), ({"share_3d": 2.0}, "share_3d"), ({"speed": (2.0, 1.0)}, "speed"),
     ({"texture_size": 100}, "power of two")],
)  # fmt: skip
def test_wrong_configurations_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipConfig(**wrong)  # type: ignore[arg-type]
