"""Points as they were given: at an image of the stream, or in a picture of their own, a reference.

A reference is not part of the stream: the picture of another day, or a part cut out of one. Nothing is known of where
its points are now, so each is looked for in the whole image, as one that is lost. A picture that is smaller than the
camera's images is laid on their middle. It need not lie so, nor be as near: it has views (`taptrv2_core.views`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from taptrv2_core.encoded import EncodedImage, encode_images
from taptrv2_core.errors import PointError
from taptrv2_core.model import Taptr
from taptrv2_core.point_checks import refuse_outside, shown, why_too_large
from taptrv2_core.views import Picture, Views

NEW_VISIBILITY = float(torch.tensor(1.0).sigmoid())
"""What the network says of a point in its own frame: visibility logit 1."""


@dataclass(frozen=True)
class Given:
    """Points given together.

    Attributes:
        ids: of N points.
        xy: (N, 2) float64 x, y in pixels.
        picture: (h, w, 3) that they are pixels of; None: of an image of the stream.
    """

    ids: list[int]
    xy: NDArray[np.float64]
    picture: NDArray[Any] | None = None
    _views: dict[tuple[int, int], Views] = field(default_factory=dict, compare=False, repr=False)

    def without(self, gone: Collection[int]) -> Given:
        """The others."""
        kept = [row for row, point in enumerate(self.ids) if point not in gone]
        views = {size: views.kept(np.asarray(kept)) for size, views in self._views.items() if kept}
        return replace(self, ids=[self.ids[row] for row in kept], xy=self.xy[kept], _views=views)

    @property
    def where_given(self) -> list[tuple[float, float, float]]:
        """x, y and visibility of each, before there is an answer."""
        visibility = NEW_VISIBILITY if self.picture is None else 0.0
        return [(float(x), float(y), visibility) for x, y in self.xy]

    def refuse_too_large(self, size: tuple[int, int], ids: list[int] | None = None) -> None:
        """Raises PointError of a picture larger than the stream's images of (height, width); ``ids``: of points that
        were added before the first image, which has come now."""
        why = "" if self.picture is None else why_too_large(self.picture.shape, size, "the stream's images")
        if why and ids is None:
            raise PointError(f"the reference {why}")
        if why and ids is not None:
            which = f"the reference of the points with ids {shown(ids)}"
            raise PointError(f"{which} {why}; remove them and step again", ids)

    def laid_out(self, model: Taptr, size: tuple[int, int]) -> Layout | None:
        """The picture as one of the stream's size (height, width); None without a picture."""
        if self.picture is None:
            return None
        import cv2

        down, right = (whole - part for whole, part in zip(size, self.picture.shape, strict=False))
        top, left = down // 2, right // 2
        border = (top, down - top, left, right - left)
        picture = cv2.copyMakeBorder(self.picture, *border, cv2.BORDER_REPLICATE)
        return Layout(encode_images(model, [picture])[0], self.xy + (left, top), self._seen(model, size))

    def _seen(self, model: Taptr, size: tuple[int, int]) -> Views | None:
        """Its views on canvases of (height, width), made once; None where the network would not look for them."""
        if self.picture is None or model.search is None or model.config.motion != "flow":
            return None
        if size not in self._views:
            self._views.clear()
            self._views[size] = Views.of(model, Picture(self.picture, self.xy, size))
        return self._views[size]


@dataclass(frozen=True)
class Layout:
    """A reference as large as the stream's images.

    Attributes:
        image: its encoding.
        xy: (N, 2) float64 pixels x, y in it.
        views: turned, and in other sizes.
    """

    image: EncodedImage
    xy: NDArray[np.float64]
    views: Views | None


def refuse_misfits(waiting: list[Given], size: tuple[int, int]) -> None:
    """Raises PointError of points, added before the first image, that do not fit it now that it has come."""
    plain = [given for given in waiting if given.picture is None]
    points = np.concatenate([given.xy for given in plain]) if plain else np.zeros((0, 2))
    refuse_outside(points, size, [point for given in plain for point in given.ids])
    for given in waiting:
        given.refuse_too_large(size, given.ids)
