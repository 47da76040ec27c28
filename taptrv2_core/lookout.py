"""Which references are looked for turned and in other sizes, and when: in a frame some views of one of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taptrv2_core.consensus import Warp, alike, moved
from taptrv2_core.geometry import PixelMap
from taptrv2_core.model import Memory, Taptr
from taptrv2_core.views import Drawn, View, Views

A_FRAME = 96
"""Most points times views that are looked for in a frame."""
MOSTLY, SOME = 0.5, 0.1
"""Share of a reference's points above which, if so many are lost, it is looked for in every frame, and in ..."""
SELDOM = 4
"""... every so many, in other views."""
WORTH = 0.2
"""Weight of a consensus above which the picture is drawn as it says."""
SURE = ((8, 0.4), (2, 0.7), (1, 0.92))
"""Weight in the picture so drawn above which that is what its points look like now: of the first pair of which so
many points are inside. What few points say is worth less, and one always agrees with itself."""
SAME = (15.0, 1.25)
"""Degrees and times by which a view may differ from the one that is known already and be none worth knowing."""
BESIDE = 2.0
"""Tolerances of the consensus beyond which a point that is followed contradicts it."""


@dataclass(frozen=True)
class Post:
    """A reference that is looked out for.

    Attributes:
        rows: (N,) of the engine, its points.
        views: of them.
        known: (N,) bool, those of which the network knows how they look in ...
        warp: ... the picture so drawn, as it lies in the stream's images now.
        turn: of the views, the next to try.
    """

    rows: NDArray[np.int64]
    views: Views
    known: NDArray[np.bool_]
    warp: Warp = field(default_factory=lambda: np.eye(2, 3))
    turn: int = 0

    @classmethod
    def of(cls, views: Views, first: int) -> Post:
        """Of a reference that was just added, with rows from ``first`` on."""
        count = len(views.picture.xy)
        return cls(np.arange(first, first + count), views, np.ones(count, dtype=bool))

    def kept(self, rows: NDArray[np.int64]) -> Post:
        """When the engine keeps only these rows."""
        mine = np.isin(self.rows, rows)
        views = self.views if mine.all() else self.views.kept(np.flatnonzero(mine))
        return replace(self, rows=np.searchsorted(rows, self.rows[mine]), views=views, known=self.known[mine])

    def tried(self) -> tuple[list[View], Post]:
        """The views whose turn it is."""
        count, points = len(self.views.views), 0
        chosen: list[View] = []
        for step in range(count):
            view = self.views.views[(self.turn + step) % count]
            points += len(view.rows)
            if chosen and points > A_FRAME:
                break
            chosen.append(view)
        return chosen, replace(self, turn=(self.turn + len(chosen)) % count)


class Lookout:
    """All references of a stream."""

    def __init__(self) -> None:
        self._posts: list[Post] = []
        self._turn = 0
        self._frames = 0

    def add(self, views: Views, first: int) -> None:
        """One whose points are in the engine's rows from ``first`` on."""
        self._posts.append(Post.of(views, first))

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Keep only the points in these rows of the engine."""
        self._posts = [kept for post in self._posts if len((kept := post.kept(rows)).rows)]

    def look(
        self, model: Taptr, memory: Memory, lost: NDArray[np.bool_], position: Tensor
    ) -> tuple[NDArray[np.int64], Drawn] | None:
        """Look for the next reference of which points are lost, in some of its views.

        Args:
            model: the network, with a search.
            memory: of the newest frame.
            lost: (N,) which of the engine's rows are.
            position: (N, 2) x, y in [0, 1] where all of them seem to be.

        Returns:
            Rows of the engine that are known by a new view, and that: of the reference's points those alone. None if
            it was not found in another view.
        """
        self._frames += 1
        least = MOSTLY if self._frames % SELDOM else SOME
        for step in range(len(self._posts)):
            number = (self._turn + step) % len(self._posts)
            if lost[self._posts[number].rows].mean() > least:
                self._turn = (number + 1) % len(self._posts)
                return self._search(model, memory, number, lost, position)
        return None

    def _search(
        self, model: Taptr, memory: Memory, number: int, lost: NDArray[np.bool_], position: Tensor
    ) -> tuple[NDArray[np.int64], Drawn] | None:
        chosen, post = self._posts[number].tried()
        self._posts[number] = post
        picture = post.views.picture
        best = post.views.sought(model, memory, chosen)
        if best is None or best.weight < WORTH:
            return None
        same = alike(best.warp, post.warp, *SAME)
        known = post.known & same
        if not (picture.shown(best.warp) & lost[post.rows] & ~known).any():
            return None
        drawn = picture.drawn(model, best.warp)
        inside, rows = drawn.inside, post.rows[drawn.inside]
        again = post.views.sought(model, memory, [View(best.warp, inside, drawn.content(model, inside))])
        if again is None or again.weight < next(sure for least, sure in SURE if len(inside) >= least):
            return None
        xy = PixelMap(picture.size, model.config.input_size).to_pixels(position[torch.from_numpy(rows)]).numpy()
        beside = np.linalg.norm(xy - moved(again.warp, picture.xy[inside]), axis=1) > BESIDE * again.tolerance
        if (beside & ~lost[rows]).mean() > again.weight:
            return None
        other = (beside | lost[rows]) & ~known[inside]
        known[inside[other]] = True
        self._posts[number] = replace(post, warp=post.warp if same else best.warp, known=known)
        return rows[other], replace(drawn, inside=inside[other])
