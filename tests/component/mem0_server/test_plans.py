"""No statement of the server reads a whole table, at 100,000 rows.

Each statement that the stores send is explained with its own arguments just before it runs; so is
what mem0ai sends. What is explained is compared with what the code names.
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest

from mem0_server.api.services import Services, build
from mem0_server.database import Database
from mem0_server.index.text import filters_of
from mem0_server.keys import KeyRing
from mem0_server.store.infer import Talk
from mem0_server.store.jobs import IndexRow, Scope
from mem0_server.store.mem0 import NewMemory
from tests.component.conftest import embed

ROWS = 100_000
SOURCE = Path(__file__).parents[3] / "mem0_server"
# Work that is about a whole table, or about a table with one row.
WHOLE = {
    "index_drop",
    "index_drop_unused",
    "index_queue_all",
    "index_register",
    "mem0_reset",
    "schema_version",
}
# Tables that have few rows wherever the server runs.
FEW = {"index_collections"}
# 1,000 humans and agents with 100 messages and records each; everything waits in both queues.
FILL = f"""
INSERT INTO agents (id, name, persona) SELECT 'a' || n, 'A', '' FROM generate_series(1, 1000) n;
INSERT INTO humans (id) SELECT 'h' || n FROM generate_series(1, 1000) n;
INSERT INTO recall (agent_id, human_id, role, content, idempotency_key)
    SELECT 'a' || n % 1000 + 1, 'h' || n % 1000 + 1, 'user', 'text ' || n, 'k' || n
    FROM generate_series(1, {ROWS}) n;
INSERT INTO archival (agent_id, human_id, run_id, kind, data)
    SELECT 'a' || n % 1000 + 1, 'h' || n % 1000 + 1, CASE WHEN n % 2 = 0 THEN 'r' || n % 1000 END,
           CASE WHEN n % 2 = 0 THEN 'mem0' ELSE 'note' END, '{{"memory": "tea"}}'
    FROM generate_series(1, {ROWS}) n;
INSERT INTO archival_keys (human_id, agent_id, idempotency_key, digest, record_id)
    SELECT human_id, agent_id, 'k' || seq, '\\x00', id FROM archival;
INSERT INTO mem0_history (memory_id, agent_id, human_id, run_id, event, new_memory, created_at,
                          updated_at)
    SELECT id, agent_id, human_id, run_id, 'ADD', 'tea', created_at, created_at FROM archival;
INSERT INTO mem0_messages (scope, human_id, role, content)
    SELECT json_build_array('h' || n % 1000 + 1, null, 'r' || n % 1000)::text,
           'h' || n % 1000 + 1, 'user', 'tea ' || n FROM generate_series(1, {ROWS}) n;
INSERT INTO infer_jobs (message_id, agent_id, human_id) SELECT id, agent_id, human_id FROM recall;
"""


class Explained:
    """A connection whose statements are explained before they run."""

    def __init__(self, connection: Any, note: Callable[[str, Any], None]) -> None:
        self._connection = connection
        self._note = note

    def __getattr__(self, name: str) -> Any:
        run = getattr(self._connection, name)

        async def explained(query: str, *arguments: Any, **options: Any) -> Any:
            if re.match(r"\s*(WITH|SELECT|INSERT|UPDATE|DELETE)", query):
                each = next(iter(arguments[0])) if name == "executemany" else arguments
                plan = await self._connection.fetchval(f"EXPLAIN (FORMAT JSON) {query}", *each)
                self._note(query, json.loads(plan))
            return await run(query, *arguments, **options)

        return explained


class ExplainedDatabase(Database):
    """Explains what is sent through it, and notes each plan under the name of its work."""

    def __init__(self, database: Database) -> None:
        super().__init__(database._settings, database.metrics)
        self.plans: list[tuple[str, str, Any]] = []

    @asynccontextmanager
    async def use(self, work: str) -> AsyncIterator[Any]:
        async with super().use(work) as connection:
            yield _Transactional(
                connection, lambda query, plan: self.plans.append((work, query, plan))
            )


class _Transactional(Explained):
    def transaction(self) -> Any:
        return self._connection.transaction()


def nodes(plan: Any) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def scanned(plan: Any) -> set[str]:
    """The tables that a plan reads from end to end."""
    root = plan[0]["Plan"]
    return {
        node["Relation Name"]
        for node in nodes(root)
        if node["Node Type"] == "Seq Scan" and node["Relation Name"] not in FEW
    }


@pytest.fixture
def filled(dsn: str) -> str:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # no checks of references
        connection.execute(FILL)
        connection.execute("VACUUM ANALYZE")
    return dsn


def fill_index(dsn: str, name: str) -> list[UUID]:
    """An index row for each record; returns some ids. Without HNSW, which is slow to fill: with a
    filter on one human the other index is what a search needs."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(f"DROP INDEX {name}_hnsw_idx")
        connection.execute(
            f"""INSERT INTO {name} (id, vector, payload)
            SELECT id, %s::vector, jsonb_build_object('user_id', human_id, 'agent_id', agent_id,
                '_kind', kind, 'data', 'tea', 'text_lemmatized', 'tea')
            FROM archival""",
            [json.dumps(embed("tea"))],
        )
        connection.execute("VACUUM ANALYZE")
        found = connection.execute("SELECT id FROM archival WHERE human_id = 'h7' LIMIT 5")
        return [row[0] for row in found.fetchall()]


def explain_library(monkeypatch: pytest.MonkeyPatch, plans: list[tuple[str, str, Any]]) -> None:
    """Explain what mem0ai selects, too."""
    execute = psycopg.Cursor.execute

    def explained(cursor: Any, query: Any, params: Any = None, **options: Any) -> Any:
        text = query if isinstance(query, str) else query.as_string(cursor)
        if "payload" in text:
            other = cursor.connection.cursor()
            execute(other, f"EXPLAIN (FORMAT JSON) {text}", params)
            plans.append(("mem0ai", text, other.fetchone()[0]))
        return execute(cursor, query, params, **options)

    monkeypatch.setattr(psycopg.Cursor, "execute", explained)


async def everything(parts: Services, collection: Any, some: list[UUID]) -> None:
    """Each unit of work of the stores once, for one human among a thousand."""
    name, scope = collection.name, Scope("h7", "a7")
    people, recall, archival, memories = parts.people, parts.recall, parts.archival, parts.memories
    await people.put_agent("a7", "A", "")
    await people.get_agent("a7")
    await people.put_human("h7", None)
    await people.get_human("h7")
    for key in (None, "new"):
        for infer in (False, True):
            await recall.append("a7", "h7", "user", "x", key and f"{key}{infer}", infer=infer)
    await recall.append("a7", "h7", "user", "x", "newTrue")
    await recall.newest("a7", "h7", 10)
    await recall.newest("a9", "h7", 10)
    await recall.before("a7", "h7", 5_000, 10)
    await recall.page("h7", ("a7", 0), 500)
    await archival.add("a7", "h7", "note", {})
    for _ in range(2):
        await archival.add("a7", "h7", "p", {}, replace=True, key="once")
    await archival.newest("a7", "h7", None, 10)
    await archival.newest("a7", "h7", "note", 10)
    await archival.newest("a9", "h7", "note", 10)
    await archival.found("a7", "h7", dict.fromkeys(some, 1.0))
    await archival.page("h7", 0, 500)
    memory = NewMemory({"memory": "x"}, UUID(int=1))
    said = [{"role": "user", "content": "x"}]
    run = Scope("h7", None, "r6")
    await memories.add(run, [memory], said, collection)
    await memories.last_said(run)
    await memories.said_by("h7")
    await parts.entities.of_human("h7")
    for one in (Scope("h7"), Scope(None, "a7"), Scope(None, None, "r6"), scope, run):
        await memories.newest(one, 20)
        await parts.jobs.is_waited_for(name, one)
        lease, _ = await parts.jobs.claim(name, 2, one)
        await parts.jobs.release(lease, "x", blame=False)
    await memories.by_ids(some)
    await memories.update(memory.id, "y", {"a": 1})
    await parts.history.of_memory(memory.id)
    await parts.history.page("h7", 0, 500)
    await memories.delete(memory.id)
    await memories.delete_all(Scope(None, None, "r6"))
    lease, jobs = await parts.jobs.claim(name, 2)
    await parts.jobs.renew(lease)
    rows = [IndexRow(job.record_id, embed("tea"), {"data": "tea"}) for job in jobs]
    await parts.jobs.finish(name, lease, rows)
    talk = await parts.inference._jobs.claim(10, 60)
    assert isinstance(talk, Talk)
    await parts.inference._jobs.release(talk.lease, "x", blame=True)
    await parts.inference._jobs.give_up(talk.lease)
    await parts.collections.is_registered(name)
    await parts.collections.use(name)
    await parts.collections.active()
    await parts.collections.now()
    await parts.collections.activate_first(name)
    await people.delete_human("h7")


async def test_no_statement_reads_a_whole_table(
    filled: str,
    scripted_ollama: Any,
    new_settings: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = new_settings(filled, scripted_ollama.url)
    parts = build(settings, KeyRing(settings))
    await parts.database.open()
    collection = await parts.indexer.open()
    ids = fill_index(filled, collection.name)
    explained = ExplainedDatabase(parts.database)
    await explained.open()
    for store in (
        *(
            parts.people,
            parts.recall,
            parts.archival,
            parts.memories,
            parts.history,
            parts.entities,
        ),
        *(parts.jobs, parts.collections, parts.inference._jobs),
    ):
        store._database = explained
    await everything(parts, collection, ids)
    explain_library(monkeypatch, explained.plans)
    await parts.library.search("tea", filters_of(Scope("h9"), None), 10)
    await parts.library.search("tea", filters_of(Scope("h9", "a9"), "note"), 10)
    await explained.close()
    await parts.library.close()
    await parts.database.close()
    bad = [
        (work, sorted(tables), query)
        for work, query, plan in explained.plans
        if (tables := scanned(plan))
    ]
    assert not bad, "\n".join(map(str, bad))
    source = "".join(file.read_text() for file in SOURCE.rglob("*.py"))
    named = set(re.findall(r'\b(?:use|transaction|long_transaction)\(\s*"(\w+)"', source))
    # count(*) of a queue, or of all there is while an index is built; the last one is asked when a
    # queue has run empty.
    counts = {"index_backlog", "index_records", "index_refused", "infer_backlog", "index_switch"}
    sent = {work for work, _, _ in explained.plans}
    assert sent >= {"mem0ai"}
    assert sent - {"mem0ai"} - WHOLE - counts == named - WHOLE - counts
