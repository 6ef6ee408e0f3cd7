"""Where rows are kept: ``build/bench.json`` for programs, ``docs/benchmarks.md`` for people.

Both keep the rows of groups that did not run this time.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.bench.rows import Row

HEAD = """# Benchmarks

Ourselves and a peer in one run on one machine; each figure is the median of several samples.
`make bench` measures anew, `make bench GROUP=mem0` one group. Under "at least" the ratio says how
many times better we are than the peer, under "at most" it is ours divided by the peer's. A goal
that is missed says so, with the reason.
"""
PACKAGES = ("fastapi", "uvicorn", "asyncpg", "mem0ai", "cachetools", "kopf")


def machine() -> str:
    """The class of this machine: cores and memory, nothing that names it."""
    cores = len(os.sched_getaffinity(0))
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cores} {'core' if cores == 1 else 'cores'}, {gib:.0f} GiB memory, Linux"


def versions() -> str:
    """What was measured with."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def write_json(path: Path, group: str, rows: Sequence[Row]) -> None:
    """Replace the rows of ``group`` in the list at ``path``."""
    kept: list[dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else []
    kept = [row for row in kept if row["group"] != group]
    new = [{"group": group, **row.as_dict()} for row in rows]
    whole = sorted([*kept, *new], key=lambda row: row["group"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n")


def write_page(path: Path, group: str, rows: Sequence[Row], when: datetime | None = None) -> None:
    """Replace the section of ``group`` in the page at ``path``; the others stay as they are."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    parts = re.split(r"(?m)^## (\S+)\n", text)[1:]
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    sections[group] = section(rows, when or datetime.now(UTC))
    body = "\n".join(f"## {name}\n\n{sections[name].strip()}\n" for name in sorted(sections))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{HEAD}\n{body}", encoding="utf-8")


def section(rows: Sequence[Row], when: datetime) -> str:
    """The text below a group's heading."""
    lines = [
        f"{when:%Y-%m-%d}, {machine()}; {versions()}.",
        "",
        "| row | ours | peer | ratio | goal | met |",
        "|---|---|---|---|---|---|",
        *(line(row) for row in rows),
    ]
    notes = [f"- {row.row}: {row.note}" for row in rows if row.note]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def line(row: Row) -> str:
    """A row of the table."""
    ratio = "–" if row.ratio is None else f"{figure(row.ratio)}x"
    goal = f"{row.rule} {row.goal:g}x"
    if row.floor is not None:
        goal += f", floor {row.floor:g}x"
    cells = (
        row.row,
        f"{figure(row.ours)} {row.unit}",
        f"{figure(row.peer)} {row.unit} ({row.peer_name})",
        ratio,
        goal,
        "yes" if row.met else "**no**",
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def figure(value: float) -> str:
    """Three significant digits, without exponents."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 2 if abs(value) >= 1 else 4
    return f"{value:.{digits - (abs(value) >= 10)}f}"
