"""Keeps points on corners without anybody asking, for visual odometry and mapping."""

from __future__ import annotations

from taptrv2_core.seeding import Seeder, SeedingOptions
from taptrv2_ros.groups import AUTOMATIC
from taptrv2_ros.messages import NANOSECONDS, nanoseconds
from taptrv2_ros.part import CameraContext, CameraPart
from taptrv2_ros.session import TrackedFrame


class AutoSeeding(CameraPart):
    """Its points are the group "auto". Where ``max_points`` is reached, they make room for those clients add."""

    def __init__(self, context: CameraContext) -> None:
        super().__init__(context)
        self._seeder: Seeder | None = None
        context.session.points.make_room = self._make_room

    def on_frame(self, tracked: TrackedFrame) -> None:
        session, options = self.context.session, self._options()
        if options is None:
            if self._seeder is not None:
                session.points.groups.forget(self._seeder.clear(session.tracker))
                self._seeder = None
            return
        if self._seeder is None:
            self._seeder = Seeder(options)
        self._seeder.options = options
        # Images without a stamp are timed by their arrival.
        seconds = nanoseconds(tracked.result.header.stamp) / NANOSECONDS or tracked.frame.received.arrived
        change = self._seeder.update(session.tracker, tracked.frame.rgb, tracked.result.tracks, seconds)
        session.points.groups.forget(change.retired)
        session.points.groups.assign(change.added, AUTOMATIC)

    def _options(self) -> SeedingOptions | None:
        parameters = self.context.parameters
        if not parameters.target_points:
            return None
        return SeedingOptions(
            parameters.target_points, parameters.min_distance, parameters.corner_quality, parameters.retire_time
        )

    def _make_room(self, count: int) -> None:
        if self._seeder is not None:
            session = self.context.session
            session.points.groups.forget(self._seeder.make_room(session.tracker, count))
