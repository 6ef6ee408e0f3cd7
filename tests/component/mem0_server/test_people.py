import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest


def test_an_agent_is_made_then_changed(client: httpx.Client) -> None:
    first = client.put("/agents/guide", json={"name": "Guide", "persona": "calm"}).json()
    changed = client.put("/agents/guide", json={"name": "Guide", "persona": "brisk"})
    assert changed.status_code == 200
    read = client.get("/agents/guide").json()
    assert read == changed.json()
    assert (read["id"], read["persona"]) == ("guide", "brisk")
    assert read["created_at"] == first["created_at"]
    assert read["updated_at"] > first["updated_at"]


def test_a_human_keeps_the_name_when_none_is_given(client: httpx.Client) -> None:
    assert client.put("/humans/ada", json={}).json()["name"] == "Ada"
    assert client.get("/humans/ada").json()["name"] == "Ada"


def test_what_does_not_exist_is_named(client: httpx.Client) -> None:
    for path, code in (("/agents/nobody", "agent_not_found"), ("/humans/x", "human_not_found")):
        answer = client.get(path)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == code


def test_an_id_may_hold_any_character(client: httpx.Client) -> None:
    humans = ["a/b", "Ünal Öz", "50%", "*", "a b?c#d", "'\"; DROP"]
    for human in humans:
        path = quote(human, safe="")
        assert client.put(f"/humans/{path}", json={"name": "N"}).json()["id"] == human
        archival = f"/agents/helper/humans/{path}/archival"
        client.post(archival, json={"kind": "note", "data": {"tea of": human}})
    for human in humans:
        found = client.post(
            f"/agents/helper/humans/{quote(human, safe='')}/archival/search",
            json={"query": "tea", "kind": "note"},
        )
        assert [record["data"] for record in found.json()["records"]] == [{"tea of": human}]


def test_deletion_leaves_nothing_and_harms_nobody_else(
    client: httpx.Client, query: Callable[..., list[tuple[Any, ...]]], wait: Callable[..., Any]
) -> None:
    client.put("/humans/ada2", json={"name": "Another"})
    for human in ("ada", "ada2"):
        base = f"/agents/helper/humans/{human}"
        client.post(f"{base}/recall", json={"role": "user", "content": "hello"})
        client.post(f"{base}/recall", json={"role": "assistant", "content": "hi"})
        client.post(
            f"{base}/archival",
            json={"kind": "k", "data": {"a": 1}},
            headers={"Idempotency-Key": "one"},
        )
        client.post(
            "/memories",
            json={"messages": [{"role": "user", "content": "x"}], "user_id": human, "infer": False},
        )
    wait(lambda: client.get("/status").json()["backlog"] == 0, "the index")
    (collection,) = query("SELECT name FROM index_collections")[0]
    tables = ("recall", "archival", "archival_keys", "mem0_messages", "mem0_history")

    def held(human: str) -> list[int]:
        counts = [query(f"SELECT count(*) FROM {t} WHERE human_id = %s", human) for t in tables]
        counts.append(
            query(f"SELECT count(*) FROM {collection} WHERE payload->>'user_id' = %s", human)
        )
        return [count[0][0] for count in counts]

    before = held("ada2")
    assert held("ada") == before == [2, 2, 1, 0, 1, 2]
    assert client.delete("/humans/ada").json() == {"messages": 2, "records": 2}
    assert held("ada") == [0, 0, 0, 0, 0, 0]
    assert held("ada2") == before
    assert client.delete("/humans/ada").status_code == 404


def test_export_has_everything_and_says_where_it_ends(client: httpx.Client) -> None:
    base = "/agents/helper/humans/ada"
    for number in range(3):
        client.post(f"{base}/recall", json={"role": "user", "content": f"message {number}"})
    client.post(f"{base}/archival", json={"kind": "k", "data": {"ö": [1, None]}})
    memory = {"messages": "I drink tea", "user_id": "ada", "infer": False}
    client.post("/memories", json=memory)
    answer = client.get("/humans/ada/export")
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    lines = [httpx.Response(200, text=line).json() for line in answer.text.splitlines()]
    assert [line["type"] for line in lines] == [
        "human",
        *["message"] * 3,
        *["record"] * 2,
        "history",
        "end",
    ]
    assert [line["content"] for line in lines[1:4]] == [f"message {n}" for n in range(3)]
    assert lines[4]["data"] == {"ö": [1, None]}
    assert (lines[6]["event"], lines[6]["new_memory"]) == ("ADD", "I drink tea")
    counts = {"messages": 3, "records": 2, "history": 1, "said": 0, "entities": 0}
    assert lines[7] == {"type": "end", **counts}
    assert client.get("/humans/nobody/export").status_code == 404


def test_an_export_that_breaks_off_shows_it(
    client: httpx.Client, query: Callable[..., list[tuple[Any, ...]]]
) -> None:
    query(
        "INSERT INTO recall (agent_id, human_id, role, content)"
        " SELECT 'helper', 'ada', 'user', repeat('x', 40000) FROM generate_series(1, 1100)"
    )
    told: list[str] = []
    with client.stream("GET", "/humans/ada/export") as answer:
        assert answer.status_code == 200
        pieces = answer.iter_text()
        told.append(next(pieces))  # the rest is more than the connection holds
        query("ALTER TABLE recall RENAME TO hidden")
        try:
            with pytest.raises(httpx.RemoteProtocolError):
                told.extend(pieces)
        finally:
            query("ALTER TABLE hidden RENAME TO recall")
    assert '"type": "message"' in "".join(told)
    assert '"type": "end"' not in "".join(told)
    assert client.get("/humans/ada").status_code == 200


def test_the_names_that_mem0ai_finds_are_exported_and_deleted(
    client: httpx.Client, query: Callable[..., list[tuple[Any, ...]]], wait: Callable[..., Any]
) -> None:
    wait(lambda: client.get("/status").json()["embeddings"]["status"] == "ok", "the index")
    ((name,),) = query("SELECT name FROM index_collections")
    query(f"CREATE TABLE {name}_entities (id uuid PRIMARY KEY, vector vector(64), payload jsonb)")
    for human in ("ada", "ada2"):
        query(
            f"INSERT INTO {name}_entities (id, payload) SELECT gen_random_uuid(), %s::jsonb",
            json.dumps(
                {"data": "Vienna", "entity_type": "GPE", "user_id": human, "linked_memory_ids": []}
            ),
        )
    told = [json.loads(line) for line in client.get("/humans/ada/export").text.splitlines()]
    assert {"type": "entity", "name": "Vienna", "kind": "GPE", "memories": []} in told
    assert told[-1]["entities"] == 1
    assert client.delete("/humans/ada").status_code == 200
    assert query(f"SELECT payload->>'user_id' FROM {name}_entities") == [("ada2",)]
    query(f"DROP TABLE {name}_entities")
