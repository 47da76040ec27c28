#!/usr/bin/env python3
"""How well points of references are found: the table in docs/model_card.md.

    tools/run.sh python tools/measure_references.py                      # on generated scenes
    tools/run.sh python tools/measure_references.py VIDEO BAG FOLDER ... # on the first image of each recording

A picture is given as a reference, and a stream shows it in another view: moved by a tenth of its width and then by a
pixel an image, turned, larger or smaller, in perspective, darker, with noise; around it another of the pictures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from numpy.typing import NDArray

from taptrv2_core.checkpoint import load_model
from taptrv2_core.evaluation.generated import synthetic_dataset
from taptrv2_core.model import Taptr
from taptrv2_core.recordings import open_recording
from taptrv2_core.tracker import Tracker

Image = NDArray[np.uint8]
Points = NDArray[np.float32]
IMAGES, JUDGED = 16, 8  # of a stream, and the last of them
NEAR = 4.0  # pixels in an image whose longer side is 256
SIDE = 480  # pixels of generated scenes
WIDEST = 640  # pixels; larger pictures of recordings are reduced
ABSENT = "not in the scene"
MARGIN = 4  # pixels from the border of the image, within which nothing is judged


@dataclass(frozen=True)
class View:
    """How the stream shows the picture."""

    name: str
    degrees: float = 0.0
    scale: float = 1.0
    perspective: float = 0.0
    """One side is nearer by this share of the distance than the middle, the other farther."""
    light: float = 1.0
    part: float = 1.0
    """Of the sides, in the middle, that the reference has."""

    def homography(self, size: tuple[int, int], shift: NDArray[np.float64]) -> NDArray[np.float64]:
        """From the picture to the stream's image, both of (width, height); ``shift`` in pixels."""
        width, height = size
        turned, perspective, centre = np.eye(3), np.eye(3), np.eye(3)
        turned[:2] = cv2.getRotationMatrix2D((width / 2, height / 2), self.degrees, self.scale)
        perspective[2, 0] = 2 * self.perspective / width
        centre[0, 2] = -width / 2
        moved = np.eye(3)
        moved[:2, 2] = shift
        return moved @ np.linalg.inv(centre) @ perspective @ centre @ turned


VIEWS = (
    View("moved"),
    *(View(f"turned by {d} degrees", degrees=d) for d in (10, 20, 40, 90, 158, 180)),
    *(View(f"{s:g} times as large", scale=s) for s in (0.5, 0.75, 1.4, 2.0)),
    *(View(f"perspective {p:g}", perspective=p) for p in (0.15, 0.3)),
    View("light 0.6", light=0.6),
    *(View(f"{p:g} of width and height cut out", part=p) for p in (0.6, 0.4)),
    View("15 degrees, 0.8, perspective 0.1, light 0.8", 15, 0.8, 0.1, 0.8),
    View("245 degrees, 0.7, perspective 0.1, light 0.8", 245, 0.7, 0.1, 0.8),
)


@dataclass
class Count:
    """Answers of points that are inside the image."""

    inside: int = 0
    near: int = 0
    visible: int = 0
    right: int = 0
    """Called visible, and near."""

    def add(self, near: NDArray[np.bool_], visible: NDArray[np.bool_]) -> None:
        """Answers of one image."""
        self.inside += len(near)
        self.near, self.visible = self.near + int(near.sum()), self.visible + int(visible.sum())
        self.right += int((near & visible).sum())

    def row(self, name: str, here: bool = True) -> str:
        """Of the table; ``here``: whether the picture is in the scene."""
        shares = [(self.near, self.inside), (self.visible, self.inside), (self.right, self.visible)]
        cells = [f"{100 * part / whole:.0f} %" if whole else "" for part, whole in shares]
        cells = cells if here else ["", cells[1], ""]
        return f"| {name} | {self.inside // JUDGED if here else self.inside} | {' | '.join(cells)} |"


def corners(picture: Image) -> Points:
    """(N, 2) pixels."""
    found = cv2.goodFeaturesToTrack(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), 60, 0.02, 15)
    return np.zeros((0, 2), np.float32) if found is None else found.reshape(-1, 2)


def reference(picture: Image, part: float) -> tuple[Image, Points, Points]:
    """What is given, its points, and the same in pixels of the whole picture."""
    height, width = picture.shape[:2]
    top, left = round(height * (1 - part) / 2), round(width * (1 - part) / 2)
    cut = picture[top : height - top, left : width - left]
    points = corners(picture)
    low, high = (left + MARGIN, top + MARGIN), (width - left - MARGIN, height - top - MARGIN)
    points = points[((points >= low) & (points <= high)).all(1)]
    return cut, points - np.float32((left, top)), points


def stream(picture: Image, around: Image, view: View, seed: int) -> Iterator[tuple[Image, NDArray[np.float64]]]:
    """Images, and the homography from the picture to each."""
    rng = np.random.default_rng(seed)
    height, width = picture.shape[:2]
    for number in range(IMAGES):
        shift = (0.1 * width + number, 0.5 * number) + rng.normal(0, 1, 2)
        warp = view.homography((width, height), shift)
        image = cv2.warpPerspective(picture, warp, (width, height), around.copy(), borderMode=cv2.BORDER_TRANSPARENT)
        noisy = image * view.light + rng.normal(0, 2, image.shape)
        yield np.clip(noisy, 0, 255).astype(np.uint8), warp


def judge(model: Taptr, pictures: list[Image], view: View) -> Count:
    """Every picture as a reference, in a stream that shows it."""
    count = Count()
    for number, picture in enumerate(pictures):
        height, width = picture.shape[:2]
        around = resized(pictures[number - 1], (width, height))
        given, xy, whole = reference(picture, view.part)
        tracker = Tracker(model)
        tracker.add_reference(given, xy)
        for index, (image, warp) in enumerate(stream(picture, around, view, number)):
            tracks = tracker.step(image)
            if index < IMAGES - JUDGED:
                continue
            true = cv2.perspectiveTransform(whole[None].astype(np.float64), warp)[0]
            inside = ((true >= MARGIN) & (true < (width - MARGIN, height - MARGIN))).all(1)
            error = np.linalg.norm(tracks.xy - true, axis=1) * 256 / max(height, width)
            count.add(error[inside] < NEAR, tracks.visible[inside])
    return count


def judge_absent(model: Taptr, pictures: list[Image]) -> Count:
    """Every picture as a reference in streams that show the others."""
    count = Count()
    for number, picture in enumerate(pictures):
        for other in range(len(pictures)):
            if other == number:
                continue
            height, width = picture.shape[:2]
            scene = resized(pictures[other], (width, height))
            given, xy, _ = reference(picture, 1.0)
            tracker = Tracker(model)
            tracker.add_reference(given, xy)
            for image, _ in stream(scene, scene, VIEWS[0], other):
                tracks = tracker.step(image)
            count.add(np.zeros(len(xy), np.bool_), tracks.visible)
    return count


def first_image(path: Path) -> Image:
    """Of a recording."""
    with open_recording(path) as recording:
        image = next(iter(recording.frames)).rgb()
    shrink = min(1.0, WIDEST / max(image.shape))
    return resized(image, (round(image.shape[1] * shrink), round(image.shape[0] * shrink)))


def resized(image: Image, size: tuple[int, int]) -> Image:
    """To (width, height)."""
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, nargs="*")
    parser.add_argument("--scenes", type=int, default=8, help="generated ones, without recordings (8)")
    parser.add_argument("--seed", type=int, default=2, help="of these (2)")
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="rows with one of these in their names")
    parser.add_argument("--model", default="small")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    options = parser.parse_args()
    if options.recordings:
        pictures = [first_image(path) for path in options.recordings]
    else:
        pictures = [sample.video[0] for sample in synthetic_dataset(options.scenes, 2, SIDE, seed=options.seed).samples]
    model = load_model(options.model, options.device, dtype=options.dtype)
    print(
        "| view | points | within 4 px | called visible | of these within 4 px |\n| --- | ---: | ---: | ---: | ---: |"
    )
    for view in VIEWS:
        if any(word in view.name for word in options.only):
            print(judge(model, pictures, view).row(view.name), flush=True)
    if any(word in ABSENT for word in options.only):
        print(judge_absent(model, pictures).row(ABSENT, here=False))


if __name__ == "__main__":
    main()
