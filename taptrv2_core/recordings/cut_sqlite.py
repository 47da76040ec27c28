"""SQLite bags that end too soon: what is whole in a file that SQLite calls malformed."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote


class CutTopic(NamedTuple):
    """A topic, as rosbags describes one."""

    id: int
    topic: str
    msgtype: str
    msgcount: int


class CutSqlite:
    """Reads the rows of such a file in the order they were recorded in, up to the first that is not whole.

    It has what is used of rosbags' readers.
    """

    def __init__(self, path: Path) -> None:
        """Raises sqlite3.DatabaseError: not even the topics can be read."""
        self._database = sqlite3.connect(
            f"file:{quote(str(path))}?immutable=1", uri=True, check_same_thread=False
        )  # opened in one thread, read in another, never in both at once
        # Otherwise SQLite opens no file that is shorter than its header says.
        self._database.execute("PRAGMA writable_schema=ON")
        self._rows = self._recorded()
        counts = Counter(topic for _, topic, _ in self._rows)
        topics = self._database.execute("SELECT id, name, type FROM topics").fetchall()
        self.connections = [CutTopic(number, name, kind, counts[number]) for number, name, kind in topics]

    def __enter__(self) -> CutSqlite:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def messages(self, connections: list[Any]) -> Generator[tuple[Any, int, bytes], None, None]:
        """(connection, nanoseconds, data) in order of time."""
        wanted = {connection.id: connection for connection in connections}
        for time, topic, row in sorted(self._rows):
            if topic not in wanted:
                continue
            try:
                found = self._database.execute("SELECT data FROM messages WHERE id = ?", (row,)).fetchone()
            except sqlite3.DatabaseError:
                return
            yield wanted[topic], time, found[0]

    def _recorded(self) -> list[tuple[int, int, int]]:
        """Time, topic and id of the rows whose beginnings are there, found without the index, which may be gone."""
        rows: list[tuple[int, int, int]] = []
        with suppress(sqlite3.DatabaseError):
            rows.extend(self._database.execute("SELECT timestamp, topic_id, id FROM messages NOT INDEXED ORDER BY id"))
        return [row for row in rows if None not in row]  # which is how pages of zeros are read
