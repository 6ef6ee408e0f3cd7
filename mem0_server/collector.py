"""Garbage collections that nobody notices.

CPython's full collection looks at every object and stops all threads meanwhile. Most of ours are
modules that stay for ever: 219,000 objects with mem0ai imported, 0.2 to 0.4 s at a time, every
few seconds under load, and no request was answered in it. So what stays is set aside
(``gc.freeze``), and young objects are looked at less often: those of the requests under way,
a hundred each, are mostly gone by themselves before they would be moved among the old ones.
"""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 10_000
"""Containers made, less those gone again, between two looks at the young; CPython's is 700."""


def settle() -> None:
    """What is there now stays: collect once, and leave it out of every later collection."""
    gc.collect()
    gc.freeze()
    _, middle, old = gc.get_threshold()
    gc.set_threshold(YOUNG_OBJECTS, middle, old)
