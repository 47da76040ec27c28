"""A reference turned, larger and smaller: what its points look like to the network in each of these views.

The network knows a point by the content it sampled in the picture; turned by more than some 20 degrees, or at half the
size, things look otherwise to it. So the picture is drawn in views, all around and in several sizes, and of some
points what they look like in each is kept. Where these are found, and agree (`taptrv2_core.consensus`), the picture is
drawn once more as it lies in the image, and all points are known by that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taptrv2_core.consensus import Consensus, Warp, agreed, moved, turn_and_scale
from taptrv2_core.encoded import EncodedImage, encode_images
from taptrv2_core.geometry import PixelMap
from taptrv2_core.model import Memory, Taptr

TURNS = 8
"""Views around."""
SCALES = (1.0, 0.5, 2.0)
"""Their sizes."""
SCOUTS = 24
"""Most points that are sought in a view."""
MARGIN = 4
"""Pixels from its border within which a point is not known in a view."""


@dataclass(frozen=True)
class Picture:
    """A reference, to be drawn on canvases as large as the stream's images.

    Attributes:
        image: (h, w, 3) RGB.
        xy: (N, 2) x, y of the points in it.
        size: (height, width) of the stream's images.
    """

    image: NDArray[Any]
    xy: NDArray[np.float64]
    size: tuple[int, int]

    def drawn(self, model: Taptr, warp: Warp) -> Drawn:
        """As it is seen after a warp; beyond it its border goes on."""
        import cv2

        image, step = self.image, np.eye(3)
        scale = turn_and_scale(warp)[1]
        if scale < 1:  # averaged first, as a camera would
            height, width = (max(2, round(scale * side)) for side in image.shape[:2])
            step[[0, 1], [0, 1]] = ratio = np.array([image.shape[1] / width, image.shape[0] / height])
            step[:2, 2] = (ratio - 1) / 2
            image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        canvas = cv2.warpAffine(image, warp @ step, self.size[::-1], borderMode=cv2.BORDER_REPLICATE)
        if canvas.dtype != np.uint8:
            canvas = canvas.clip(0, 1)  # rounding may leave it
        position = PixelMap(self.size, model.config.input_size).to_position(torch.from_numpy(moved(warp, self.xy)))
        position = position.to(model.device, model.position_dtype)
        return Drawn(encode_images(model, [canvas])[0], position, np.flatnonzero(self.shown(warp)))

    def shown(self, warp: Warp) -> NDArray[np.bool_]:
        """Which points, (N,), are on the canvas after a warp, well inside."""
        xy = moved(warp, self.xy)
        return np.asarray(((xy >= MARGIN) & (xy < np.array(self.size[::-1]) - MARGIN)).all(axis=1))

    def views(self) -> list[Warp]:
        """From the picture to its views: the middle of the points in the middle."""
        middle, into = self.xy.mean(axis=0), (np.array(self.size[::-1]) - 1) / 2
        warps = []
        for scale in SCALES:
            for angle in 2 * np.pi / TURNS * np.arange(TURNS):
                cos, sin = scale * np.cos(angle), scale * np.sin(angle)
                turned = np.array([[cos, sin], [-sin, cos]])
                warps.append(np.column_stack((turned, into - turned @ middle)))
        return warps


@dataclass(frozen=True)
class Drawn:
    """A picture as seen after a warp.

    Attributes:
        image: the canvas, encoded.
        position: (N, 2) of all its points, in [0, 1] where they are inside.
        inside: (n,) which those are.
    """

    image: EncodedImage
    position: Tensor
    inside: NDArray[np.int64]

    def content(self, model: Taptr, rows: NDArray[np.int64]) -> Tensor:
        """(1, n, C) of the points in ``rows`` (n,)."""
        index = torch.from_numpy(rows).to(self.position.device)
        return model.initial_content(self.image.memory, self.position[None, index])


@dataclass(frozen=True)
class View:
    """Some points as they look in a view.

    Attributes:
        warp: from the picture to the view.
        rows: (n,) which points.
        content: (1, n, C).
    """

    warp: Warp
    rows: NDArray[np.int64]
    content: Tensor

    @classmethod
    def of(cls, model: Taptr, picture: Picture, warp: Warp) -> View:
        """Of a picture, which is encoded for it."""
        drawn = picture.drawn(model, warp)
        rows = drawn.inside[np.linspace(0, len(drawn.inside) - 1, min(SCOUTS, len(drawn.inside))).astype(np.int64)]
        return cls(warp, rows, drawn.content(model, rows))


@dataclass(frozen=True)
class Views:
    """A picture, and its points in all views."""

    picture: Picture
    views: tuple[View, ...]

    @classmethod
    def of(cls, model: Taptr, picture: Picture) -> Views:
        """Costs a camera's image each."""
        return cls(picture, tuple(View.of(model, picture, warp) for warp in picture.views()))

    def kept(self, rows: NDArray[np.int64]) -> Views:
        """With the points in ``rows`` alone."""
        place = np.full(len(self.picture.xy), -1)
        place[rows] = np.arange(len(rows))
        views = []
        for view in self.views:
            left = np.flatnonzero(place[view.rows] >= 0)
            index = torch.from_numpy(left).to(view.content.device)
            views.append(View(view.warp, place[view.rows[left]], view.content.index_select(1, index)))
        return Views(replace(self.picture, xy=self.picture.xy[rows]), tuple(views))

    def sought(self, model: Taptr, memory: Memory, views: Sequence[View]) -> Consensus | None:
        """What the places say at which one of these views' points seem to be in a frame with this memory of B = 1: of
        that view in which they say it best."""
        search = model.search
        assert search is not None
        if not any(len(view.rows) for view in views):
            return None
        asked = search.ask(torch.cat([view.content for view in views], dim=1))
        places = search.likeliest(memory.tokens, memory.level_shapes, asked)
        agreement = search.agreement(memory.tokens, memory.level_shapes, asked, places)
        pixels = PixelMap(self.picture.size, model.config.input_size)
        table = torch.cat((pixels.to_pixels(places.double()), agreement.double().exp()), dim=2)[0].cpu().numpy()
        longest, first, best = max(self.picture.size), 0, None
        for view in views:
            found = table[first : first + len(view.rows)]
            first += len(found)
            said = agreed(self.picture.xy[view.rows], found[:, :2], found[:, 2], view.warp, longest)
            if said is not None and (best is None or said.weight > best.weight):
                best = said
        return best
