"""What can go wrong in the demo beside its input, each ending it with one line."""

from __future__ import annotations


class DemoError(Exception):
    """The demo cannot go on, through no fault of its input: the node ended, did not answer, or refused."""
