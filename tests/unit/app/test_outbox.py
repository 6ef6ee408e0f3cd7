"""What readers see while notes wait, and what a failed delivery means: decided without I/O."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rag import backlog
from app.rag.delivery import ATTEMPTS, LATER, backoff, verdict
from app.rag.mem0_errors import (
    Mem0Error,
    Mem0NotFoundError,
    Mem0RefusedError,
    Mem0UnauthorizedError,
    Mem0UnavailableError,
    Mem0UnreachableError,
)
from app.rag.notes import INTERACTIONS, PREFERENCES, Kind, Row, arguments

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def row(number: int, kind: Kind, body: dict[str, Any], *, waiting: bool = True) -> Row:
    return Row(number, f"key-{number}", kind, body, at(number), waiting)


def at(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat()


def message(number: int) -> Row:
    return row(number, "message", {"role": "user", "content": "yes"})


def arrived(number: int) -> dict[str, Any]:
    """The message of that number as Mem0 tells it."""
    return {"id": number, **message(number).body, "idempotency_key": f"key-{number}"}


@given(
    said=st.integers(0, 30),
    swept=st.integers(0, 30),
    known=st.integers(0, 30),
    limit=st.integers(1, 12),
)
def test_history_is_whole_in_order_and_without_doubles(
    said: int, swept: int, known: int, limit: int
) -> None:
    """However far the deliveries came, what a cache still shows, and what was swept since."""
    known = min(known, said)  # so many had arrived when Mem0's list was read
    rows = [message(n) for n in range(min(swept, known), said)]
    told = [arrived(n) for n in range(known)][-limit:]
    keys = [m["idempotency_key"] for m in backlog.history(told, rows, limit)]
    assert keys == [f"key-{n}" for n in range(said)][-limit:]


@given(
    said=st.integers(0, 12),
    swept=st.integers(0, 12),
    known=st.integers(0, 12),
    documents=st.lists(st.sampled_from("ab"), min_size=12, max_size=12),
    limit=st.integers(1, 6),
)
def test_interactions_are_whole_newest_first_and_without_doubles(
    said: int, swept: int, known: int, documents: list[str], limit: int
) -> None:
    """Records do not tell their key, and the same document is used again and again."""
    known = min(known, said)
    swept = min(swept, known)

    def body(number: int) -> dict[str, Any]:
        return {"document_id": documents[number]}

    # What was swept is as long ago as delivered rows are kept.
    moment = [number * 0.1 + (20 if number >= swept else 0) for number in range(12)]
    rows = [
        Row(n, f"key-{n}", "interaction", body(n), at(moment[n]), True) for n in range(swept, said)
    ]
    told = [{"data": body(n), "created_at": at(moment[n] + 0.3)} for n in reversed(range(known))][
        :limit
    ]
    found = backlog.interactions(told, rows, limit)
    assert [one["data"] for one in found] == [body(n) for n in reversed(range(said))][:limit]


def test_the_newest_preferences_hold() -> None:
    rows = [row(1, "preferences", {"style": "short"}), row(2, "preferences", {})]
    assert backlog.preferences({"style": "long"}, rows[:1]) == {"style": "short"}
    assert backlog.preferences({"style": "long"}, rows) == {}
    assert backlog.preferences({"style": "long"}, []) == {"style": "long"}


def test_what_is_to_be_forgotten_is_not_shown() -> None:
    rows = [row(1, "forget", {}), message(2)]
    told = [arrived(0)]
    assert [m["idempotency_key"] for m in backlog.history(told, rows, 9)] == ["key-2"]
    assert backlog.preferences({"style": "long"}, rows) == {}
    used = [{"data": {"document_id": "a"}, "created_at": at(0)}]
    assert backlog.interactions(used, rows, 9) == []


def answered(error: Mem0Error, status: int) -> Mem0Error:
    error.answered = status
    return error


@pytest.mark.parametrize(
    ("error", "means"),
    [
        (Mem0UnreachableError("gone"), "away"),
        (Mem0UnauthorizedError("401"), "away"),
        (answered(Mem0UnavailableError("busy"), 503), "away"),
        (answered(Mem0UnavailableError("busy"), 429), "away"),
        (answered(Mem0UnavailableError("broken"), 500), "later"),
        (Mem0NotFoundError("still"), "later"),
        (answered(Mem0RefusedError("wrong"), 422), "park"),
    ],
)
def test_a_failure_is_of_mem0_or_of_the_row(error: Mem0Error, means: str) -> None:
    assert verdict(error, 0) == means
    last = verdict(error, ATTEMPTS - 1)
    assert last == ("park" if means == "later" else means)


def test_the_pauses_grow_up_to_a_bound() -> None:
    least, most = LATER
    for attempts in range(100):
        assert least / 2 <= backoff(LATER, attempts) <= most
    assert backoff(LATER, 99) >= most / 2


def test_a_note_becomes_a_call_of_the_client() -> None:
    both = {"agent_id": "a", "human_id": "h"}
    said = {"role": "user", "content": "hi"}
    assert arguments("a", "h", "message", said) == both | {"message": said}
    assert arguments("a", "h", "preferences", {"x": 1}) == both | {
        "data": {"x": 1}, "kind": PREFERENCES, "replace": True,
    }  # fmt: skip
    used = {"document_id": "d"}
    assert arguments("a", "h", "interaction", used) == both | {"data": used, "kind": INTERACTIONS}
