"""A picture of what the generator makes: `python -m taptrv2_core.synthetic.sheet OUT.png`."""

from __future__ import annotations

import argparse
import colorsys
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .config import ClipConfig, Clips
from .generator import ClipGenerator

Image = NDArray[np.integer[Any] | np.floating[Any]]
TAIL = 6
UPSCALE = 2
GOLDEN = 0.381966


def main() -> None:
    """Write the sheet: a row for a clip, points with their tails; hollow where hidden."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("out", help="image file to write")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--columns", type=int, default=4, help="frames shown of each clip")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--split", choices=("train", "heldout"), default="train")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    config = ClipConfig(height=args.size, width=args.size, points=args.points, split=args.split, share_3d=0.5)
    generator = ClipGenerator(config, seed=args.seed)
    rows = []
    for _ in range(args.clips):
        clip = generator.sample(1)
        picked = np.linspace(0, config.frames - 1, args.columns).round().astype(int)
        rows.append(np.concatenate([draw(clip, int(t)) for t in picked], 1))
    sheet = np.concatenate(rows, 0)
    if not cv2.imwrite(args.out, sheet, [cv2.IMWRITE_PNG_COMPRESSION, 9]):
        raise SystemExit(f"Cannot write {args.out}: no such folder, or not the name of an image")


def draw(clip: Clips, t: int, tail: int = TAIL) -> Image:
    """Frame t of the first clip as BGR with its points."""
    image: Image = (clip.video[0, t].permute(1, 2, 0).numpy()[..., ::-1] * 255).round().astype(np.uint8)
    image = cv2.resize(image, None, fx=UPSCALE, fy=UPSCALE, interpolation=cv2.INTER_LINEAR)
    xy = ((clip.xy[0].numpy() + 0.5) * UPSCALE - 0.5) * 16  # OpenCV draws at sixteenths of a pixel
    for n in range(xy.shape[1]):
        red, green, blue = colorsys.hsv_to_rgb(n * GOLDEN % 1, 0.9, 1)
        colour = (int(blue * 255), int(green * 255), int(red * 255))
        line = xy[max(t - tail, 0) : t + 1, n].round().astype(np.int32)
        cv2.polylines(image, [line[:, None]], False, colour, 1, cv2.LINE_AA, shift=4)
        if clip.inside[0, t, n]:
            centre = (int(line[-1, 0]), int(line[-1, 1]))
            filled = bool(clip.visible[0, t, n])
            cv2.circle(image, centre, 4 * 16, colour, -1 if filled else 1, cv2.LINE_AA, shift=4)
    return cv2.resize(image, None, fx=1 / UPSCALE, fy=1 / UPSCALE, interpolation=cv2.INTER_AREA)


if __name__ == "__main__":
    main()
