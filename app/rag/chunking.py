"""Passages to chunks: pieces small enough to embed, cut where a reader would pause. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from app.rag.documents.passage import Passage

# From the best place to cut to the worst; a cut falls behind the match.
_PAUSES = tuple(
    re.compile(pattern) for pattern in (r"\n\s*\n", r"\n", r"[.!?:;][\"')\]]*\s", r",\s", r"\s")
)


@dataclass(frozen=True)
class Chunk:
    """A piece of a document; ``position`` counts from 0 through the whole document."""

    position: int
    text: str
    page: int | None
    section: str | None


def chunked(passages: Iterable[Passage], size: int, overlap: int) -> Iterator[Chunk]:
    """Cut passages into chunks of at most ``size`` characters.

    A chunk never crosses a page or a section. Chunks of one passage share up to ``overlap``
    characters with the one before, so that a fact that lies on a cut is whole in one of them.
    """
    if not 0 <= overlap < size:
        raise ValueError("overlap must be at least 0 and smaller than size")
    position = 0
    for passage in passages:
        for start, end in spans(passage.text, size, overlap):
            text = passage.text[start:end].strip()
            if text:
                yield Chunk(position, text, passage.page, passage.section)
                position += 1


def spans(text: str, size: int, overlap: int) -> Iterator[tuple[int, int]]:
    """Where to cut: (start, end) pairs that cover ``text`` in order, each at most ``size`` long."""
    start = end = 0
    while len(text) - start > size:
        end = _cut(text, start, size, beyond=end)
        yield start, end
        start = _restart(text, start, end, overlap)
    if start < len(text):
        yield start, len(text)


def _cut(text: str, start: int, size: int, beyond: int) -> int:
    """The end of a chunk: the last good pause in its second half, else ``size``.

    It lies ``beyond`` the end of the chunk before, whatever the two share.
    """
    limit = start + size
    earliest = max(start + size // 2, beyond)
    for pause in _PAUSES:
        cut = 0
        for match in pause.finditer(text, earliest, limit):
            cut = match.end()
        if cut:
            return cut
    return limit


def _restart(text: str, start: int, end: int, overlap: int) -> int:
    """Where the next chunk begins: up to ``overlap`` before ``end``, at the start of a word."""
    earliest = max(end - overlap, start + 1)
    if earliest >= end:
        return end
    word = re.compile(r"(?<=\s)\S").search(text, earliest, end)
    return word.start() if word else end
