"""``metis``: the app's own command. Without arguments it serves.

In a cluster it runs in the app's pod, where settings and credentials are at hand::

    kubectl exec deploy/<instance>-app -- metis outbox list
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.exc import SQLAlchemyError

from app.errors import AppError, ConfigurationError, DatabaseUnavailableError, NotFoundError

_COLUMNS = ("ID", "HUMAN", "KIND", "AGE", "STATE", "TRIES", "REASON")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command: 0 when it did its work, 1 when it could not, 2 for wrong use or settings."""
    arguments = _parser().parse_args(argv)
    if arguments.command in (None, "serve"):
        from app.server import serve  # with all that a server needs, which a command does not

        return serve()
    try:
        print(asyncio.run(_outbox(arguments)))
    except AppError as error:
        print(f"metis: {error.message}", file=sys.stderr)
        return 2 if isinstance(error, ConfigurationError) else 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="metis", description="The Metis RAG app. Without a command it serves."
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("serve", help="serve until SIGTERM, then finish what is under way")
    outbox = commands.add_parser(
        "outbox",
        help="what waits for the memory server, and what it refused",
        description="What users said and memory has not yet: it waits in metis-postgres and is "
        "delivered by itself. A row that the memory server refuses for good is parked.",
    )
    actions = outbox.add_subparsers(dest="action", metavar="action", required=True)
    listing = actions.add_parser("list", help="rows that wait or are parked, oldest first")
    listing.add_argument("--parked", action="store_true", help="parked rows only")
    listing.add_argument(
        "--limit", type=_positive, default=100, metavar="N", help="at most N rows (default: 100)"
    )
    retrying = actions.add_parser(
        "retry",
        help="let parked rows wait again",
        description="Let parked rows wait again; they are delivered as if they were written now.",
    )
    which = retrying.add_mutually_exclusive_group(required=True)
    which.add_argument("ids", nargs="*", type=_positive, default=[], metavar="ID",
                       help="ids of parked rows, as `metis outbox list` shows them")  # fmt: skip
    which.add_argument("--all", action="store_true", help="every parked row")
    for action in (listing, retrying):
        action.add_argument(
            "-o", "--output", choices=("table", "json"), default="table", help="(default: table)"
        )
    return parser


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


async def _outbox(arguments: argparse.Namespace) -> str:
    from app.core.config import SETTINGS
    from app.db import session

    engine = session.bind(SETTINGS)
    try:
        if arguments.action == "list":
            return await _list(arguments)
        return await _retry(arguments)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, SQLAlchemyError, OSError) as error:
        if getattr(error, "sqlstate", None) == "42P01":
            raise DatabaseUnavailableError(
                "metis-postgres has no outbox yet: run `python -m app.prepare`"
            ) from error
        raise DatabaseUnavailableError(
            f"metis-postgres does not answer ({type(error).__name__}: {error}); check "
            "METIS_POSTGRES_DSN and that the database runs"
        ) from error
    finally:
        await engine.dispose()


async def _list(arguments: argparse.Namespace) -> str:
    from app.rag import outbox

    rows = await outbox.listed(arguments.parked, arguments.limit)
    state = await outbox.state()
    if arguments.output == "json":
        found: dict[str, Any] = {
            "waiting": state.waiting,
            "parked": state.parked,
            "oldest_seconds": round(state.oldest_seconds, 1),
            "rows": [asdict(row) for row in rows],
        }
        return json.dumps(found, indent=2, default=datetime.isoformat)
    now = datetime.now(UTC)
    lines = [
        (
            str(row.id),
            row.human_id,
            row.kind,
            _age((now - row.created_at).total_seconds()),
            "parked" if row.parked_at else "waiting",
            str(row.attempts),
            row.reason or "",
        )
        for row in rows
    ]
    summary = f"{state.waiting} waiting, {state.parked} parked"
    if state.waiting:
        summary += f", the oldest for {_age(state.oldest_seconds)}"
    return "\n".join([*_table(lines), summary])


async def _retry(arguments: argparse.Namespace) -> str:
    from app.rag import outbox

    count = await outbox.retry(None if arguments.all else arguments.ids)
    if not count and not arguments.all:
        raise NotFoundError(
            "none of these is a parked row; `metis outbox list --parked` shows those that are"
        )
    if arguments.output == "json":
        return json.dumps({"retried": count})
    return f"{count} row{'' if count == 1 else 's'} wait{'s' if count == 1 else ''} again"


def _table(lines: Sequence[tuple[str, ...]]) -> list[str]:
    if not lines:
        return []
    rows = [_COLUMNS, *lines]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"
