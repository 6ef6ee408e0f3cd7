"""``status``: how MetisRAGs are, trouble first."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

from ..core.objects import Object
from ..errors import ClusterError
from .command import Context
from .exits import Exit
from .instances import every, pick
from .layout import tree
from .status_view import needs_attention, summary, trees

if TYPE_CHECKING:
    from .reach import Session

NAME = "status"
SUMMARY = "show how MetisRAGs are, trouble first"
DESCRIPTION = (
    "Shows how a MetisRAG and each of its components is, and what is to be done. Without a name, "
    "all MetisRAGs of the namespace. Ends with 2 when one is not as its spec asks."
)
EXAMPLES = (
    ("status", "all MetisRAGs of the namespace"),
    ("status demo -n second --watch", "one of them, as it changes"),
    ("status -A -o json", "all of the cluster, for a program"),
)
_PAUSE = 1.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="name of a MetisRAG (default: all)")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="in all namespaces")
    parser.add_argument(
        "-w",
        "--watch",
        action="store_true",
        help="go on, and show each change; with -o json one line each",
    )


async def run(context: Context) -> int:
    """Show it, once or as it changes."""
    async with context.connect() as session:
        if context.arguments.watch:
            await _watch(context, session)
        resources = await _find(context, session)
        _show(context, session, resources)
    return Exit.ATTENTION if any(map(needs_attention, resources)) else Exit.OK


async def _find(context: Context, session: Session) -> list[Object]:
    if context.arguments.name:
        return [await pick(session, context.arguments.name)]
    return await every(session, None if context.arguments.all_namespaces else session.namespace)


def _show(context: Context, session: Session, resources: list[Object]) -> None:
    if context.as_json:
        context.print_json({"items": [summary(r) for r in resources]})
    else:
        context.terminal.print("\n".join(_lines(context, session, resources)))


def _lines(context: Context, session: Session, resources: list[Object]) -> list[str]:
    if resources:
        nodes = trees(resources, datetime.now(UTC), whole=len(resources) == 1)
        return tree(nodes, context.terminal)
    if context.arguments.all_namespaces:
        return ["There is no MetisRAG in this cluster. To make one: kubectl apply -f metisrag.yaml"]
    return [f"There is no MetisRAG in namespace {session.namespace}. In all: status -A"]


async def _watch(context: Context, session: Session) -> NoReturn:
    """Show each change until interrupted. On a terminal it stays in place, and ages go on."""
    terminal = context.terminal
    in_place = terminal.interactive and not context.as_json
    shown, height, away = "", 0, False
    while True:
        try:
            resources = await _find(context, session)
        except ClusterError as error:
            if error.permanent:
                raise
            if not away:
                terminal.note(f"note: {session.place} does not answer, trying again")
            away = True
            await asyncio.sleep(_PAUSE)
            continue
        away = False
        news = json.dumps({"items": [summary(r) for r in resources]}, ensure_ascii=False)
        lines = [news] if context.as_json else _lines(context, session, resources)
        if in_place:
            lines = lines[: shutil.get_terminal_size().lines - 1]
            terminal.print(f"\x1b[{height}F\x1b[J" if height else "", end="")
            height = len(lines)
        if in_place or news != shown:
            terminal.print("\n".join(lines))
        shown = news
        await asyncio.sleep(_PAUSE)
