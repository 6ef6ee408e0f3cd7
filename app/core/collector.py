"""Garbage collections that nobody notices.

CPython's full collection looks at every object and stops all threads meanwhile. Most of ours are
modules, which stay for ever; with so many it takes a tenth of a second or more. So they are set
aside when all is imported, and young objects are looked at less often: those of the requests
under way are mostly gone by themselves before they would be moved among the old ones.
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
