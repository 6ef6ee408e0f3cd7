"""An answer as it streams in: its events, its words within a width, its sources. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from .exits import CommandError
from .terminal import printable


async def events(lines: AsyncIterator[str]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """The server-sent events of a stream: name and data of each that is complete.

    Raises:
        CommandError: the data of an event is no JSON object.
    """
    name, data = "message", ""
    async for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data += value
        elif not line and data:
            yield name, _object(data)
            name, data = "message", ""


def _object(text: str) -> dict[str, Any]:
    try:
        loaded = json.loads(text)
    except ValueError:
        loaded = None
    if not isinstance(loaded, dict):
        raise CommandError(
            "What answers is not the app of this version.", "Is something else behind the Service?"
        )
    return loaded


class Flow:
    """Text that comes in pieces, given back in pieces that break between words."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._column = 0
        self._held = ""

    def add(self, text: str) -> str:
        """What can be written now that ``text`` has come: all but the last, unfinished word."""
        self._held += printable(text)
        *whole, self._held = re.split(r"(?<=\s)", self._held)
        return "".join(map(self._place, whole))

    def end(self) -> str:
        """What is left."""
        held, self._held = self._held, ""
        return self._place(held)

    def _place(self, word: str) -> str:
        bare = word.rstrip()
        broken = self._column > 0 and self._column + len(bare) > self._width
        if broken:
            self._column = 0
        if "\n" in word:
            self._column = len(word.rsplit("\n", 1)[1])
        else:
            self._column += len(word)
        return f"\n{word}" if broken else word


def source_lines(sources: Sequence[Mapping[str, Any]]) -> list[str]:
    """The sources of an answer, one line each, by their number."""
    return [_source(s) for s in sorted(sources, key=lambda s: int(s["number"]))]


def _source(source: Mapping[str, Any]) -> str:
    place = f", page {source['page']}" if source.get("page") is not None else ""
    place += f", {source['section']}" if source.get("section") else ""
    text = printable(f"[{source['number']}] {source['document_name']}{place}")
    return " ".join(text.split())
