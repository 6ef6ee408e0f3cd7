"""How text is laid out: trees, wrapped notes, ages. Pure: it makes lines and writes none."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from .terminal import Terminal, printable

# What a node's mark looks like, and in which style.
_MARKS = {
    "good": ("✓", "good"),
    "bad": ("✗", "bad"),
    "wait": ("…", "warn"),
    "hint": ("!", "warn"),
    "idle": ("○", "dim"),
    "fact": ("·", "dim"),
    "": ("", ""),
}
_PLAIN_MARKS = {"✓": "+", "✗": "x", "…": "~", "○": "o", "·": "-", "": "", "!": "!"}
_GAP = "  "
# With less room than this beside the others, a last cell begins on the next line.
_LEAST_ROOM = 24


@dataclass(frozen=True)
class Node:
    """A line of a tree: a mark, cells that align with those of its siblings, a note below."""

    cells: Sequence[str]
    mark: str = ""
    note: str = ""
    children: Sequence[Node] = ()
    styles: Sequence[str] = field(default=())
    """The style of each cell; none where the list ends."""


def tree(roots: Sequence[Node], terminal: Terminal) -> list[str]:
    """The lines of ``roots`` and all below them, none wider than the terminal allows."""
    lines: list[str] = []
    widths = _widths(roots)
    for index, root in enumerate(roots):
        if index and (root.children or roots[index - 1].children):
            lines.append("")
        lines += _node(root, terminal, widths, "", "")
    return lines


def wrap(text: str, width: int) -> list[str]:
    """``text`` in lines of at most ``width`` columns; a longer word stays whole."""
    return [
        line
        for part in printable(text).splitlines()
        for line in textwrap.wrap(
            part, max(20, width), break_long_words=False, break_on_hyphens=False
        )
    ]


def age(seconds: float) -> str:
    """A duration as kubectl shows it: its largest units, at most two of them."""
    left = max(0, int(seconds))
    if left < 120:
        return f"{left}s"
    minutes, hours, days = left // 60, left // 3600, left // 86400
    if minutes < 10:
        rest = left % 60
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        rest = minutes % 60
        return f"{hours}h{rest}m" if rest else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    return f"{days}d"


def size(count: float) -> str:
    """Bytes for a person: 8.1 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit in ("B", "kB") else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def since(stamp: str | None, now: datetime) -> str:
    """The age of an RFC 3339 time; empty when there is none."""
    then = _moment(stamp)
    return age((now - then).total_seconds()) if then else ""


def until(stamp: str | None, now: datetime) -> str:
    """How long it is until an RFC 3339 time; empty when there is none."""
    then = _moment(stamp)
    return age((then - now).total_seconds()) if then else ""


def _moment(stamp: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat((stamp or "").replace("Z", "+00:00"))
    except ValueError:
        return None


def _node(
    node: Node, terminal: Terminal, widths: Sequence[int], first: str, rest: str
) -> list[str]:
    bar = ("│" if terminal.unicode else "|") if node.children else ""
    left = f"{rest}{bar}"
    # A note stands below the text that it is about, beside the line to the children.
    left_of_note = left.ljust(len(rest) + (2 if node.mark else 0))
    note = wrap(node.note, terminal.width - len(left_of_note))
    lines = _row(node, terminal, widths, first, left)
    lines += [terminal.style(left_of_note, "dim") + line for line in note]
    child_widths = _widths(node.children)
    for index, child in enumerate(node.children):
        last = index == len(node.children) - 1
        branch, trunk = _branches(last=last, glyphs=terminal.unicode)
        lines += _node(child, terminal, child_widths, rest + branch, rest + trunk)
    return lines


def _branches(*, last: bool, glyphs: bool) -> tuple[str, str]:
    if glyphs:
        return ("└─ ", "   ") if last else ("├─ ", "│  ")
    return ("`- ", "   ") if last else ("|- ", "|  ")


def _row(
    node: Node, terminal: Terminal, widths: Sequence[int], prefix: str, left: str
) -> list[str]:
    """The line of a node; of a last cell that is too long for it, more lines below its start."""
    symbol, style = _MARKS[node.mark]
    if not terminal.unicode:
        symbol = _PLAIN_MARKS[symbol]
    cells = [printable(" ".join(cell.split())) for cell in node.cells]
    head = terminal.style(prefix, "dim") + (f"{terminal.style(symbol, style)} " if symbol else "")
    column = len(prefix) + (2 if symbol else 0)
    for index, cell in enumerate(cells[:-1]):
        head += terminal.style(cell, *_style(node, index)) + " " * (widths[index] - len(cell))
        head += _GAP
        column += widths[index] + len(_GAP)
    if len(cells[-1]) > terminal.width - column < _LEAST_ROOM:
        column = len(left) + 4
        parts = ["", *wrap(cells[-1], terminal.width - column)]
    else:
        parts = wrap(cells[-1], terminal.width - column) or [""]
    below = terminal.style(left.ljust(column), "dim")
    names = _style(node, len(cells) - 1)
    return [
        ((below if index else head) + terminal.style(part, *names)).rstrip()
        for index, part in enumerate(parts)
    ]


def _style(node: Node, index: int) -> list[str]:
    return node.styles[index].split() if index < len(node.styles) else []


def _widths(nodes: Sequence[Node]) -> list[int]:
    """The width of each column; the last cell of a node may be as long as it likes."""
    columns = max((len(n.cells) for n in nodes), default=0)
    return [
        max((len(n.cells[i]) for n in nodes if i < len(n.cells) - 1), default=0)
        for i in range(columns)
    ]
