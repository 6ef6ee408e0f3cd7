"""The Mem0 server: over HTTP, on one PostgreSQL, beside what one would write without it.

The database forgets at a crash (no fsync), on both sides: the disk is not what is compared. What
alternates within a row is measured in turns of seconds, so that a busy machine slows both.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from tests.bench.mem0 import conversation, removal, search
from tests.bench.mem0.world import World
from tests.bench.rows import Row


def rows() -> Iterator[Row]:
    """All rows of the group."""
    with ExitStack() as stack:
        world = stack.enter_context(World.opened())
        yield from conversation.against_mem0ai(world)
        yield conversation.at_size(world)
        yield conversation.against_bare_insert(world)
        yield removal.of_a_human(world)
        yield search.against_sql(world)
