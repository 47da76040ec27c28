"""Names a client gives to points, so that many of them are one handle."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
from numpy.typing import NDArray

from taptrv2_core import PointError

AUTOMATIC = "auto"
"""The group of the points the node adds by itself."""
CLICKED = "click"
"""The group of points that were clicked."""
_LONGEST = 200


class Groups:
    """Which point belongs to which group. A group is there as long as a point of it is tracked. Not thread-safe."""

    def __init__(self) -> None:
        self._group_of: dict[int, str] = {}

    def check(self, name: str) -> None:
        """Raises PointError for a name clients cannot give."""
        if name == AUTOMATIC:
            raise PointError(f"the group name '{AUTOMATIC}' is the node's own, of points it adds by itself")
        _check_length(name)

    def assign(self, ids: Iterable[int], name: str) -> None:
        """Put new points into a group; "" is none."""
        if name:
            self._group_of.update(dict.fromkeys(ids, name))

    def forget(self, ids: Iterable[int]) -> None:
        """The points are no longer tracked."""
        for point in ids:
            self._group_of.pop(point, None)

    def keep(self, ids: Collection[int]) -> None:
        """No other points are tracked any more."""
        self._group_of = {point: group for point, group in self._group_of.items() if point in ids}

    def members(self, name: str) -> list[int]:
        """Ids of a group's points. Raises PointError naming the groups there are, if there is no such group."""
        _check_length(name)
        found = self.having(name)
        if not found:
            known = ", ".join(f"'{group}'" for group in sorted(set(self._group_of.values())))
            raise PointError(f"no tracked point is in a group '{name}'; groups are: {known or 'none'}")
        return found

    def having(self, name: str) -> list[int]:
        """Ids of a group's points; none if there is no such group."""
        return [point for point, group in self._group_of.items() if group == name]

    def table(self, ids: Iterable[int]) -> tuple[NDArray[np.uint32], list[str]]:
        """For each point the index of its group in the list of names, which begins with "", the points without one."""
        index = {"": 0}
        rows = [index.setdefault(self._group_of.get(point, ""), len(index)) for point in ids]
        return np.array(rows, dtype=np.uint32), list(index)


def _check_length(name: str) -> None:
    """Raises PointError for a name that would fill the log."""
    if len(name) > _LONGEST:
        raise PointError(f"a group name of {len(name)} characters is too long; at most {_LONGEST}")
