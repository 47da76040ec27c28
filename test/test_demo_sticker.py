"""The sticker stays where it was put, on a plane whose motion is known, and goes behind what passes in front."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest

pytest.importorskip("av")
pytest.importorskip("tqdm")
import av

from taptrv2_core.cli import main
from taptrv2_core.demos.sticker import Box, Surface, draw_sticker, load_artwork, own_artwork
from taptrv2_core.demos.sticker.smooth import smooth_warps
from taptrv2_core.demos.sticker.spool import Spool
from taptrv2_core.demos.sticker.warp import Placement, WarpEstimator
from taptrv2_core.drawing import VideoWriter

HEIGHT, WIDTH, FRAMES = 240, 320, 24
BOX = Box(120, 80, 80, 80)
GREEN = np.zeros((40, 40, 4), np.uint8) + np.array([0, 255, 0, 255], np.uint8)


class Scene(NamedTuple):
    images: list[np.ndarray]
    warps: list[np.ndarray]
    covered: list[np.ndarray]


@pytest.fixture(scope="module")
def scene() -> Scene:
    """A textured plane that turns, grows and tilts; a plain bar crosses it in the middle of the time."""
    noise = np.random.default_rng(1).integers(0, 256, (30, 40, 3)).astype(np.uint8) // (
        1,
        2,
        1,
    )  # green is the sticker's
    texture = cv2.resize(noise.astype(np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    scene = Scene([], [], [])
    for index in range(FRAMES):
        share = index / FRAMES
        turn = np.vstack((cv2.getRotationMatrix2D((160, 120), 12 * share, 1 + 0.15 * share), (0, 0, 1)))
        tilt = np.array([[1, 0, 14 * share], [0, 1, -9 * share], [2e-4 * share, 0, 1]])
        warp = tilt @ turn
        image = cv2.warpPerspective(texture, warp, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
        covered = np.zeros((HEIGHT, WIDTH), bool)
        covered[:, max(0, 24 * (index - 6)) : max(0, 24 * (index - 6) + 30)] = True
        image[covered] = (20, 20, 230)
        scene.images.append(image)
        scene.warps.append(warp)
        scene.covered.append(covered)
    return scene


def moved(points: np.ndarray, warp: np.ndarray) -> np.ndarray:
    return cv2.perspectiveTransform(points[None].astype(np.float64), warp)[0]


def placements_from(scene: Scene, misled: float) -> tuple[np.ndarray, list[Placement]]:
    """What the estimator makes of true tracks with noise, a share of which follows something else."""
    rng = np.random.default_rng(2)
    points = np.stack(np.meshgrid(np.linspace(118, 202, 12), np.linspace(78, 162, 12)), axis=-1).reshape(-1, 2)
    estimator = WarpEstimator(scene.images[0], BOX.corners, points)
    placements = [Placement(np.eye(3), np.ones(len(points), bool), True)]
    wrong = rng.random(len(points)) < misled
    for index in range(1, FRAMES):
        xy = moved(points, scene.warps[index]) + rng.normal(0, 1.0, points.shape)
        xy[wrong] = points[wrong] + (6 * index, 0) + rng.normal(0, 3.0, (wrong.sum(), 2))
        pixels = np.clip(xy.round().astype(int), 0, (WIDTH - 1, HEIGHT - 1))
        seen = ~scene.covered[index][pixels[:, 1], pixels[:, 0]]
        placements.append(estimator.update(scene.images[index], xy.astype(np.float32), seen))
    return points, placements


@pytest.mark.parametrize("misled", [0.0, 0.4])
def test_the_surface_is_found_among_wrong_tracks(scene: Scene, misled: float) -> None:
    _, placements = placements_from(scene, misled)
    assert sum(p.sure for p in placements) >= FRAMES - 3
    warps = smooth_warps(placements, BOX.corners)
    errors = [
        np.linalg.norm(moved(BOX.corners, a) - moved(BOX.corners, b), axis=1).max()
        for a, b in zip(warps, scene.warps, strict=True)
    ]
    assert np.median(errors) < 0.6
    assert max(errors) < 3


def test_the_sticker_is_on_the_surface_and_behind_what_covers_it(scene: Scene) -> None:
    points, placements = placements_from(scene, 0.2)
    surface = Surface(0, scene.images[0], BOX, points, placements)
    agreement, crossed = [], 0
    for index, picture in enumerate(draw_sticker(scene.images, surface, GREEN)):
        outline = moved(BOX.corners, scene.warps[index])
        truth = cv2.fillConvexPoly(np.zeros((HEIGHT, WIDTH), np.uint8), outline.round().astype(np.int32), 1) > 0
        crossed += bool((truth & scene.covered[index]).any())
        truth &= ~scene.covered[index]
        green = np.abs(picture.astype(int) - (0, 255, 0)).max(axis=-1) < 110
        agreement.append((green & truth).sum() / (green | truth).sum())
        np.testing.assert_array_equal(picture[:40, :40], scene.images[index][:40, :40])
    assert crossed >= 5
    assert np.mean(agreement) > 0.9
    assert min(agreement) > 0.7


def test_out_of_sight_the_way_is_bridged() -> None:
    def placement(x: float, sure: bool) -> Placement:
        return Placement(np.array([[1.0, 0, x], [0, 1, 0], [0, 0, 1]]), np.ones(4, bool), sure)

    known = [placement(2.0 * i, True) for i in range(12)]
    lost = [placement(99.0, False) if 4 <= i < 8 else p for i, p in enumerate(known)]
    for placements in (known, lost):
        np.testing.assert_allclose(smooth_warps(placements, BOX.corners)[:, 0, 2], 2.0 * np.arange(12), atol=1e-3)


def test_a_spool_gives_back_the_last_first() -> None:
    with Spool() as spool:
        for shade in (10, 90, 200):
            spool.push(np.full((16, 24, 3), shade, np.uint8))
        back = list(spool.newest_first())
        assert [round(float(image.mean())) for image in back] == [200, 90, 10]
        assert back[0].shape == (16, 24, 3)
    with Spool() as spool:
        assert list(spool.newest_first()) == []


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, scene: Scene) -> Path:
    path = tmp_path_factory.mktemp("video") / "plane.mp4"
    with VideoWriter(path, 20) as writer:
        for image in scene.images[:10]:
            writer.write(image)
    return path


def test_the_command_follows_both_ways_with_the_shipped_weights(tmp_path: Path, video: Path, scene: Scene) -> None:
    logo, out = tmp_path / "logo.png", tmp_path / "out.mp4"
    cv2.imwrite(str(logo), cv2.cvtColor(GREEN, cv2.COLOR_RGBA2BGRA))
    where = moved(BOX.corners, scene.warps[5])
    box = f"{where[:, 0].min()},{where[:, 1].min()},80,80"
    arguments = ["--image", str(logo), "--box", box, "--frame", "5", "--out", str(out)]
    assert main(["demo", "sticker", str(video), *arguments]) == 0
    with av.open(str(out)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == 10
    start = where.min(axis=0) + 40
    for index, picture in enumerate(pictures):
        green = (picture[..., 1].astype(int) - picture[..., [0, 2]].max(axis=-1)) > 120
        column, row = (float(v.mean()) for v in np.nonzero(green)[::-1])
        middle = moved(start[None], scene.warps[index] @ np.linalg.inv(scene.warps[5]))[0]
        assert np.hypot(column - middle[0], row - middle[1]) < 8


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--box", "300,200,80,80"], "reaches outside the image of 320 x 240 pixels"),
        (["--box", "10,10,4,80"], "too few to follow"),
        (["--frame", "99"], "--frame 99: the recording has no such image"),
        (["--image", "none.png"], "none.png: no such file"),
        (["--image", __file__], "cannot be read as an image"),
    ],
)
def test_what_cannot_be_done_is_said(
    tmp_path: Path, video: Path, weights: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    out = tmp_path / "out.mp4"
    assert main(["demo", "sticker", str(video), "--weights", str(weights), "--out", str(out), *arguments]) == 1
    assert reason in capsys.readouterr().err
    assert not out.exists()


def test_artwork_of_any_kind(tmp_path: Path) -> None:
    grey, alpha = np.full((8, 9), 70, np.uint16) * 257, own_artwork()
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    cv2.imwrite(str(tmp_path / "alpha.png"), cv2.cvtColor(alpha, cv2.COLOR_RGBA2BGRA))
    assert (load_artwork(tmp_path / "grey.png") == (70, 70, 70, 255)).all()
    np.testing.assert_array_equal(load_artwork(tmp_path / "alpha.png"), alpha)
