"""``python -m tests.bench [--group NAME]``: measure, print, and keep the rows."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import tests.bench
from tests.bench import report
from tests.bench.rows import Row

ROOT = Path(__file__).resolve().parents[2]
FRAME = {"rows", "report"}


def groups() -> list[str]:
    """The names of all groups: the modules beside this one that are not the frame."""
    found = (module.name for module in pkgutil.iter_modules(tests.bench.__path__))
    return sorted(name for name in found if not name.startswith("_") and name not in FRAME)


def main(argv: Sequence[str] | None = None) -> int:
    """Run groups; 0 when all ran, 1 when one could not or fell below a floor, 2 for bad words."""
    known = groups()
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="Measure ourselves and a peer in one run. A goal missed is reported; only a "
        "group that cannot run, or a row below its floor, makes the exit status 1.",
        epilog=f"Groups: {', '.join(known) or 'none yet'}.",
    )
    parser.add_argument("--group", metavar="NAME", help="only this group (default: all)")
    parser.add_argument(
        "--json",
        type=Path,
        default=ROOT / "build" / "bench.json",
        help="file for programs (default build/bench.json)",
    )
    parser.add_argument(
        "--page",
        type=Path,
        default=ROOT / "docs" / "benchmarks.md",
        help="page for people (default docs/benchmarks.md)",
    )
    arguments = parser.parse_args(argv)
    chosen = [arguments.group] if arguments.group else known
    if unknown := [name for name in chosen if name not in known]:
        parser.error(f"there is no group {unknown[0]!r}; there are: {', '.join(known) or 'none'}")
    good = True
    for name in chosen:
        good = _run(name, arguments.json, arguments.page) and good
    return 0 if good else 1


def _run(name: str, json: Path, page: Path) -> bool:
    """Measure one group and keep its rows; whether it ran and no row is below its floor."""
    print(f"{name}:", flush=True)
    began = time.monotonic()
    rows: list[Row] = []
    try:
        for row in importlib.import_module(f"tests.bench.{name}").rows():
            print(f"  {report.line(row)}", flush=True)
            rows.append(row)
    except Exception:  # noqa: BLE001 - the other groups shall run, and this one leaves no half report
        traceback.print_exc()
        print(f"  {name} could not be measured; its old rows stay", file=sys.stderr)
        return False
    report.write_json(json, name, rows)
    report.write_page(page, name, rows)
    print(f"  {len(rows)} rows in {time.monotonic() - began:.0f} s", flush=True)
    return not any(row.failed for row in rows)


if __name__ == "__main__":
    sys.exit(main())
