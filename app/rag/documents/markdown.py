"""Markdown: the text as written, cut at its headings."""

from __future__ import annotations

import re

from app.rag.documents.passage import Outline, Passage, passages_of

_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_SETEXT = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_NOT_A_TITLE = re.compile(r"\s*([-*+>|]|\d+[.)]|#)")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\n.*?\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_INLINE = re.compile(r"[*_`]+|\[([^\]]*)\]\([^)]*\)")


def parse_markdown(text: str) -> list[Passage]:
    """Passages by section. Front matter is left out; headings in code fences are none."""
    text = _FRONT_MATTER.sub("", text.replace("\r\n", "\n").lstrip("\ufeff"))
    outline = Outline()
    parts: list[tuple[str | None, str]] = []
    lines: list[str] = []
    fence: str | None = None

    def close() -> None:
        parts.append((outline.path, "\n".join(lines)))
        lines.clear()

    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if fence is not None or mark:
            fence = _fence_after(fence, mark)
            lines.append(line)
        elif heading := _ATX.match(line):
            close()
            outline.enter(len(heading[1]), _plain(heading[2] or ""))
        elif (under := _SETEXT.match(line)) and lines and _is_title(lines):
            title = lines.pop()
            close()
            outline.enter(1 if under[1][0] == "=" else 2, _plain(title))
        else:
            lines.append(line)
    close()
    return passages_of(parts)


def _fence_after(fence: str | None, mark: re.Match[str] | None) -> str | None:
    """The fence that is open after a line: a fence ends with its own sign, at least as long."""
    if fence is None:
        return mark[1] if mark else None
    closes = mark is not None and mark[1][0] == fence[0] and len(mark[1]) >= len(fence)
    return None if closes else fence


def _is_title(lines: list[str]) -> bool:
    """Whether the last line, alone in its paragraph, can be the title over a ``===`` or ``---``."""
    alone = len(lines) == 1 or not lines[-2].strip()
    return alone and bool(lines[-1].strip()) and not _NOT_A_TITLE.match(lines[-1])


def _plain(title: str) -> str:
    """A heading without its inline marks."""
    return _INLINE.sub(lambda mark: mark[1] or "", title).strip()
