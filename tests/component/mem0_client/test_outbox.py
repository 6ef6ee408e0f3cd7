"""The ``store_*`` functions with a database behind them, and without one."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from app.core.config import Settings, load_settings
from app.db.migrate import migrate
from app.rag import mem0_client
from app.rag.notes import Row


@pytest.fixture(scope="module")
def metis_dsn(postgres_dsn_factory: Callable[[str], str]) -> str:
    dsn = postgres_dsn_factory("metis")
    migrate(load_settings(database_url=dsn))
    return dsn


@pytest.fixture
def with_database(
    own_mem0: Any, metis_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """The module under test with the settings of a user of the library."""

    def set_up(dsn: str | None) -> Any:
        more = {"database_url": dsn} if dsn else {}
        settings = load_settings(mem0_endpoint=own_mem0.url, mem0_api_key=own_mem0.key, **more)
        monkeypatch.setattr(mem0_client, "SETTINGS", settings)
        monkeypatch.setattr(mem0_client, "_mem0_client", None)
        return mem0_client

    return set_up


def queued(dsn: str) -> list[tuple[str, dict[str, Any]]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute("SELECT kind, body FROM outbox ORDER BY id").fetchall()


def test_what_mem0_does_not_take_waits_and_is_read_with_the_rest(
    with_database: Callable[..., Any],
    own_mem0: Any,
    metis_dsn: str,
    human: str,
    eventually: Callable[..., None],
) -> None:
    memory = with_database(metis_dsn)
    assert memory.store_message(human, "user", "one")
    assert queued(metis_dsn) == [], "Mem0 took it"
    own_mem0.stop()
    assert memory.store_message(human, "assistant", "two")
    assert memory.store_user_preferences(human, {"style": "short"})
    assert memory.store_document_interaction(human, "doc", "view", {"page": 3})
    assert [kind for kind, _ in queued(metis_dsn)] == ["message", "preferences", "interaction"]

    def check(history: list[str]) -> None:
        assert [m["content"] for m in memory.get_conversation_history(human)] == history
        assert memory.get_user_preferences(human) == {"style": "short"}
        (used,) = memory.get_document_interactions(human, document_id="doc")
        assert (used["interaction_type"], used["data"]) == ("view", {"page": 3})

    check(["two"])  # the first is in Mem0, which does not answer
    own_mem0.start()
    assert memory.store_message(human, "user", "three")
    assert len(queued(metis_dsn)) == 4, "behind the others, though Mem0 is back"
    client = memory.get_mem0_client()
    eventually(lambda: client.get_recall_memory(memory.METIS_AGENT_ID, human), 60)
    check(["one", "two", "three"])


def test_the_direct_try_and_the_row_share_their_key(
    with_database: Callable[..., Any], metis_dsn: str, human: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = with_database(metis_dsn)
    client = memory.get_mem0_client()
    append, keys = client.append_message, []

    def lost_answer(**sent: Any) -> bool:
        keys.append(sent["idempotency_key"])
        assert append(**sent)
        return False  # Mem0 took it, but nobody heard

    monkeypatch.setattr(client, "append_message", lost_answer)
    assert memory.store_message(human, "user", "once")
    with psycopg.connect(metis_dsn) as connection:
        rows = connection.execute(
            "SELECT key::text FROM outbox WHERE human_id = %s", [human]
        ).fetchall()
    assert rows == [(keys[0],)]
    assert [m["content"] for m in memory.get_conversation_history(human)] == ["once"]


@pytest.mark.parametrize("dsn", [None, "postgresql://127.0.0.1:1/nowhere"])
def test_without_a_database_memory_works_and_says_what_it_did_not_take(
    with_database: Callable[..., Any], own_mem0: Any, human: str, dsn: str | None
) -> None:
    memory = with_database(dsn)
    assert memory.store_message(human, "user", "one")
    assert [m["content"] for m in memory.get_conversation_history(human)] == ["one"]
    own_mem0.stop()
    assert not memory.store_message(human, "user", "two")
    assert not memory.store_user_preferences(human, {"style": "short"})


def test_a_database_is_configured_when_somebody_said_where(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("METIS_POSTGRES_DSN", "DATABASE_URL", "DATABASE_HOST", "DATABASE_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    assert not load_settings().database_configured
    assert load_settings(database_host="db").database_configured
    monkeypatch.setenv("METIS_POSTGRES_DSN", "postgresql://db/metis")
    assert Settings().database_configured
    monkeypatch.setattr(mem0_client, "SETTINGS", SimpleNamespace(use_mem0=True))
    assert mem0_client._rows("ann") == []


def test_rows_that_the_caller_has_read_are_taken(memory: Any, human: str) -> None:
    row = Row(1, "k", "message", {"role": "user", "content": "waits"}, "2030-01-01T00:00:00Z", True)
    assert [m["content"] for m in memory.get_conversation_history(human, queued=[row])] == ["waits"]
