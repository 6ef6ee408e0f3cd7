"""What every parser returns, and the clean text they agree on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

SECTION_SEPARATOR = " › "
"""Between the headings of a section's path: ``Handbook › Leave › Parental leave``."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_TRAILING = re.compile(r"[ \t\u00a0]+\n")
_MANY_BREAKS = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class Passage:
    """A run of text that lies on one page and in one section.

    ``page`` counts from 1 and is None where a format has no pages; ``section`` is the path of
    headings, None where there are none.
    """

    text: str
    page: int | None = None
    section: str | None = None


def cleaned(text: str) -> str:
    """``text`` with plain newlines and without what PostgreSQL cannot hold or nobody can read."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n")
    text = _CONTROL.sub("", text).replace("\ufeff", "")
    return _MANY_BREAKS.sub("\n\n", _TRAILING.sub("\n", text)).strip()


class Outline:
    """The headings above the current line, by level."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []

    def enter(self, level: int, title: str) -> None:
        """A heading of ``level`` begins: it closes all of its level and below."""
        self._open = [entry for entry in self._open if entry[0] < level]
        if title:
            self._open.append((level, title))

    @property
    def path(self) -> str | None:
        """The path of headings, None before the first one."""
        return SECTION_SEPARATOR.join(title for _, title in self._open) or None


def passages_of(parts: Sequence[tuple[str | None, str]]) -> list[Passage]:
    """Passages from (section, text) pairs; those without text fall out."""
    found = [Passage(cleaned(text), section=section) for section, text in parts]
    return [passage for passage in found if passage.text]
