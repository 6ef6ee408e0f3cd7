"""What a reader sees of a human's memory while notes of it are in the outbox. Pure.

Mem0 tells what it has, perhaps from a cache that has not yet heard of the last delivery; the rows
tell what it has not, or has had for some seconds only. Together they are the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from app.rag.notes import Row

Json = dict[str, Any]
CLOCKS = timedelta(seconds=5)
"""How far the clocks of the two databases may be apart; less than a delivered row stays."""


def history(known: Sequence[Mapping[str, Any]], rows: Sequence[Row], limit: int) -> list[Json]:
    """The newest ``limit`` messages, oldest first: what Mem0 has, then what it does not have yet.

    Rows are delivered in order, so those before the newest one that Mem0 shows are there too,
    even where its list is too short to show them.
    """
    known = [] if _forgotten(rows) else known
    messages = _of("message", rows)
    seen = {message.get("idempotency_key") for message in known}
    newest = max((n for n, row in enumerate(messages, 1) if row.key in seen), default=0)
    missing = [
        {**row.body, "idempotency_key": row.key, "created_at": row.created_at}
        for row in messages[newest:]
    ]
    return [*(dict(message) for message in known), *missing][-limit:]


def preferences(known: Mapping[str, Any], rows: Sequence[Row]) -> Json:
    """The preferences set last."""
    newest = _of("preferences", rows)[-1:]
    if newest:
        return dict(newest[0].body)
    return {} if _forgotten(rows) else dict(known)


def interactions(known: Sequence[Mapping[str, Any]], rows: Sequence[Row], limit: int) -> list[Json]:
    """The newest ``limit`` interactions, newest first."""
    known = [] if _forgotten(rows) else known
    used = _of("interaction", rows)
    arrived = next((n for n in range(len(used), 0, -1) if _arrived(used[:n], known, limit)), 0)
    missing = [{"data": row.body, "created_at": row.created_at} for row in used[arrived:]]
    return [*missing[::-1], *(dict(one) for one in known)][:limit]


def _arrived(rows: Sequence[Row], known: Sequence[Mapping[str, Any]], limit: int) -> bool:
    """Whether these rows are the newest of what Mem0 has: a record does not tell its key."""
    return (len(rows) <= len(known) or len(known) >= limit) and all(
        record["data"] == row.body
        and datetime.fromisoformat(record["created_at"])
        >= datetime.fromisoformat(row.created_at) - CLOCKS
        for row, record in zip(reversed(rows), known, strict=False)
    )


def _forgotten(rows: Sequence[Row]) -> bool:
    """Whether what Mem0 still shows is to be deleted: all rows there are came after that."""
    return any(row.kind == "forget" for row in rows)


def _of(kind: str, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.kind == kind]
