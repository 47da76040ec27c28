"""Recordings through the tracker, judged: `taptr evaluate-bag`, `taptr evaluate-bags`."""
