"""The streaming tracker: one camera, any points, one answer a frame."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from taptrv2_core.answers import Answer, Answers, places
from taptrv2_core.encoded import EncodedImage, encode_images
from taptrv2_core.engine import SlidingWindow
from taptrv2_core.errors import ImageError, PointError
from taptrv2_core.geometry import PixelMap
from taptrv2_core.given import Given, Layout, refuse_misfits
from taptrv2_core.images import checked_picture
from taptrv2_core.model import Taptr
from taptrv2_core.point_checks import checked_points, refuse_outside, shown
from taptrv2_core.tracks import Queries, Tracks
from taptrv2_core.window_result import WindowResult


class Tracker:
    """Follows points through a stream of images of one camera. Not thread-safe.

    Every frame gets an answer at once. Memory is constant: frames live in a ring of 8. Trackers may share a model.

    Args:
        model: from `load_model`.
        max_points: most points at a time.
        takeover_interval: g, the content of a query is taken over by later frames after every g-th committing window.
    """

    def __init__(self, model: Taptr, max_points: int = 1024, takeover_interval: int = 1) -> None:
        if max_points < 1:
            raise ValueError(f"max_points is {max_points}; it must be at least 1")
        self.model = model
        self.max_points = max_points
        self.takeover_interval = takeover_interval
        self._next_id = 0
        self._references: list[Given] = []
        self._engine = SlidingWindow(model, takeover_interval)
        self.reset()

    def reset(self) -> None:
        """Forget all images and points; those of references are looked for anew. Ids go on where they were."""
        self._engine = self._engine.fresh()
        self._waiting = list(self._references)  # for the first image
        self._ids = [point for given in self._waiting for point in given.ids]
        self._answers = Answers(self._waiting)
        self._stamps: dict[int, int] = {}
        self._size: tuple[int, int] | None = None

    def close(self) -> None:
        """Give up network, images and points, for programs that cannot tell when the last reference to the tracker
        goes. It is not to be used any more."""
        del self.model, self._engine

    @property
    def num_points(self) -> int:
        """How many points are followed."""
        return len(self._ids)

    @property
    def frame_index(self) -> int:
        """Number of the newest frame; -1 before the first."""
        return self._engine.frame

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) of the stream's images; None before the first."""
        return self._size

    @property
    def held_stamps(self) -> tuple[int, ...]:
        """Stamps of the frames points can still be added at, oldest first."""
        return tuple(self._stamps[frame] for frame in self._engine.held)

    @property
    def commits(self) -> bool:
        """Whether a window commits at the newest frame: frames 7, 11, 15, ..."""
        return self._engine.commits

    @property
    def needs_answer(self) -> bool:
        """Whether `answer` has to follow `take` at the newest frame: where a window commits.

        At the others it changes nothing, and who waits for `Tracks.refined` anyway may leave it out, which saves half
        of the time. Networks that begin new frames by optical flow need it at every frame.
        """
        return self.commits or self.model.config.motion == "flow"

    @torch.inference_mode()
    def add_points(self, xy: ArrayLike, stamp: int | None = None) -> list[int]:
        """Follow more points from now on.

        Args:
            xy: (N, 2) x, y in pixels. Before the first image they wait for it.
            stamp: of the image they were picked in, one of `held_stamps`; None: the newest image.

        Returns:
            Their ids, never used before.

        Raises:
            PointError: a coordinate is not finite or outside the image, there would be more than `max_points`, or no
                held image has that stamp. Then none is added.
        """
        points = self._checked_points(xy, self._size)
        if stamp is not None and stamp not in self._stamps.values():
            held = self.held_stamps
            what = f"the {len(held)} images held have stamps {held[0]} to {held[-1]}" if held else "no image came yet"
            raise PointError(f"no image with stamp {stamp} is held: {what}")
        frame = self.frame_index if stamp is None else max(f for f, s in self._stamps.items() if s == stamp)
        return self._follow(self._give(points), frame)

    @torch.inference_mode()
    def add_reference(self, image: Any, xy: ArrayLike) -> list[int]:
        """Follow points of a picture that is not part of the stream: of another day, or a part cut out of one.

        Each is looked for in the images held and in every one to come, and hidden until it is found (`Tracks.found`).
        They are kept when the tracker is `reset`, and found again. Also what is turned, or half to twice as large: for
        that the picture is encoded in 24 views (`taptrv2_core.views`), each at the cost of a camera's image. Networks
        without a search find only what is where it was.

        Args:
            image: (h, w, 3) RGB or (h, w) grey, uint8, or float in [0, 1]; not larger than the stream's images.
            xy: (N, 2) x, y in pixels of it.

        Returns:
            Their ids, never used before.

        Raises:
            ImageError: the picture cannot be used.
            PointError: it is too large, a coordinate is not finite or outside it, or there would be more than
                `max_points`. Then none is added.
        """
        picture = checked_picture(image).copy()
        points = self._checked_points(xy, (picture.shape[0], picture.shape[1]))
        given = self._give(points, picture)
        if self._size is not None:
            given.refuse_too_large(self._size)
        ids = self._follow(given, self.frame_index)
        self._references += [given] if ids else []
        return ids

    def remove_points(self, ids: Iterable[int]) -> None:
        """Stop following points.

        Raises:
            PointError: an id is not followed. Then none is removed.
        """
        gone = {int(i) for i in ids}
        unknown = sorted(gone.difference(self._ids))
        if unknown:
            raise PointError(f"no points with ids {shown(unknown)} are followed", unknown)
        rows = [row for row, point in enumerate(self._ids) if point not in gone]
        self._waiting, self._references = (
            [left for given in every if (left := given.without(gone)).ids]
            for every in (self._waiting, self._references)
        )
        if self._size is not None:
            with torch.inference_mode():
                self._engine.keep(rows)
        self._ids = [self._ids[row] for row in rows]
        self._answers.remove(gone)

    def clear(self) -> int:
        """Stop following all points; images are kept. Returns how many there were."""
        count = self.num_points
        self.remove_points(list(self._ids))
        return count

    def queries(self) -> Queries:
        """What is followed, and where each point was last."""
        ids, last = np.array(self._ids, dtype=np.int64), self._answers.last_seen()
        x, y, visibility = np.array([last[i] for i in self._ids], np.float32).reshape(-1, 3).T.copy()
        frames = np.full_like(ids, -1) if self._size is None else np.array(self._engine.starts, dtype=np.int64)
        frames[np.isin(ids, [point for given in self._references for point in given.ids])] = -1
        return Queries(ids, frames, x, y, visibility, visibility > 0.5, self._answers.found(ids))

    @torch.inference_mode()
    def step(self, image: Any, stamp: int | None = None) -> Tracks:
        """Take in the next frame and say where every point is in it.

        Args:
            image: (H, W, 3) RGB or (H, W) grey, uint8, or float in [0, 1]; or what `encode_images` made of one.
            stamp: any integer that names the frame, as of `add_points`; its number if None.

        Raises:
            ImageError: the image cannot be used, or its size is not the stream's (`reset` starts anew).
            PointError: points added before the first image lie outside it; remove them and step again.
        """
        self.take(image, stamp)
        return self.answer()

    @torch.inference_mode()
    def take(self, image: Any, stamp: int | None = None) -> None:
        """The first half of `step`: take in the next frame. `answer` is to follow where it `needs_answer`."""
        encoded = image if isinstance(image, EncodedImage) else encode_images(self.model, [image])[0]
        size = encoded.size
        if self._size is not None and size != self._size:
            raise ImageError(
                f"image is {size[1]} x {size[0]} pixels, the stream's are {self._size[1]} x {self._size[0]}: "
                "points cannot be followed across a change of size; call reset() to start anew"
            )
        refuse_misfits(self._waiting, size)
        waiting = [(given, given.laid_out(self.model, size)) for given in self._waiting]
        self._engine.push_memory(encoded.memory, encoded.flow_image)
        self._size = size
        self._stamps[self.frame_index] = self.frame_index if stamp is None else stamp
        self._stamps.pop(self._engine.held[0] - 1, None)
        self._waiting = []
        for given, layout in waiting:
            self._add(given, self.frame_index, layout)

    @torch.inference_mode()
    def answer(self) -> Tracks:
        """The second half of `step`: where every point is in the newest frame.

        An answer that failed for want of memory can be asked for again, after `remove_points`, and nothing is lost.
        """
        engine = self._engine
        if engine.commits:
            return self._answers.newest(self._answer(engine.commit(), list(engine.held)))
        return self._answers.newest(self._answer(engine.run(newest_only=True), [engine.frame]))

    @torch.inference_mode()
    def finish(self) -> tuple[Tracks, ...]:
        """Where every point is in the frames held, oldest first, by a window that ends at the newest frame.

        For the end of a video: it refines the frames since the last committing window. Nothing is changed.
        """
        held = list(self._engine.held)
        return self._answers.refined(self._answer(self._engine.run(), held), held, final=held)

    def _answer(self, result: WindowResult | None, frames: list[int]) -> Answer:
        """A window's answer for frames, the newest at last."""
        ids, starts = np.array(self._ids, dtype=np.int64), np.array(self._engine.starts, dtype=np.int64)
        rows = {frame: np.flatnonzero(starts <= frame) for frame in frames}
        nothing = np.zeros((1, 0, 3), dtype=np.float32)
        table = nothing if result is None else places(result, self._pixels())  # at last: a GPU is at work until then
        return Answer(ids, rows, table, self._stamps)

    def _add(self, given: Given, frame: int, layout: Layout | None) -> None:
        """Points of a frame that is held, or of a reference."""
        position = self._pixels().to_position(torch.from_numpy(given.xy if layout is None else layout.xy))
        if layout is None:
            self._engine.add(position, frame)
        else:
            self._engine.add_reference(position, layout.image.memory, layout.image.flow_image, layout.views)

    def _pixels(self) -> PixelMap:
        assert self._size is not None
        return PixelMap(self._size, self.model.config.input_size)

    def _checked_points(self, xy: ArrayLike, size: tuple[int, int] | None) -> NDArray[np.float64]:
        """(N, 2) in an image of (height, width), None: of any size. Raises PointError."""
        points = checked_points(xy)
        total = self.num_points + len(points)
        if total > self.max_points:
            raise PointError(
                f"{len(points)} more points would make {total}; at most {self.max_points} (max_points) are followed"
            )
        refuse_outside(points, size)
        return points

    def _give(self, points: NDArray[np.float64], picture: NDArray[Any] | None = None) -> Given:
        """Points with ids that they will have once they are followed."""
        return Given(list(range(self._next_id, self._next_id + len(points))), points, picture)

    def _follow(self, given: Given, frame: int) -> list[int]:
        """From now on, or from the first image on. Returns their ids."""
        if not given.ids:
            return []
        if self._size is None:
            self._waiting.append(given)
        else:
            self._add(given, frame, given.laid_out(self.model, self._size))
        self._answers.add(given)
        self._ids += given.ids
        self._next_id += len(given.ids)
        return list(given.ids)
