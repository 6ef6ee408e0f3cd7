"""The cached memory client against the plain design, and what memory costs a chat request.

The plain design: a key formatted as text, a ``TTLCache`` that is asked twice, no lock, no copy,
and a write that looks through all keys for those with its prefix. Both sides read the same
upstream, a Mem0 in this process that takes as long as it is told to.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.bench.client._bookkeeping import bookkeeping
from tests.bench.client._reads import cached_reads, invalidation, miss_storm, threaded_reads
from tests.bench.client._replicas import zipf
from tests.bench.rows import Row


def rows() -> Iterator[Row]:
    """All rows of the group."""
    yield from cached_reads()
    yield threaded_reads()
    yield invalidation()
    yield from miss_storm()
    yield from zipf()
    yield from bookkeeping()
