from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

ARCHIVAL = "/agents/helper/humans/ada/archival"


def put(client: httpx.Client, kind: str, data: Any, **more: Any) -> httpx.Response:
    headers = {"Idempotency-Key": more.pop("key")} if "key" in more else {}
    return client.post(ARCHIVAL, json={"kind": kind, "data": data, **more}, headers=headers)


def listed(client: httpx.Client, kind: str | None = None, **params: Any) -> list[Any]:
    if kind is not None:
        params["kind"] = kind
    records = client.get(ARCHIVAL, params=params).json()["records"]
    return [record["data"] for record in records]


def test_records_come_newest_first(client: httpx.Client) -> None:
    first = put(client, "note", {"n": 1})
    assert first.status_code == 201
    assert set(first.json()) == {"id", "kind", "data", "created_at"}
    put(client, "other", {"n": 2})
    put(client, "note", {"n": 3})
    assert listed(client) == [{"n": 3}, {"n": 2}, {"n": 1}]
    assert listed(client, "note") == [{"n": 3}, {"n": 1}]
    assert listed(client, limit=1) == [{"n": 3}]


def test_replace_leaves_one_and_the_index_forgets_the_others(
    client: httpx.Client, query: Callable[..., list[tuple[Any, ...]]], wait: Callable[..., Any]
) -> None:
    put(client, "other", {"about": "tea"})
    for number in range(3):
        put(client, "note", {"about": f"tea {number}"})
    wait(lambda: client.get("/status").json()["backlog"] == 0, "the index")
    put(client, "note", {"about": "tea at last"}, replace=True)
    assert listed(client, "note") == [{"about": "tea at last"}]
    found = client.post(f"{ARCHIVAL}/search", json={"query": "tea"}).json()["records"]
    assert {record["data"]["about"] for record in found} == {"tea", "tea at last"}
    (collection,) = query("SELECT name FROM index_collections")[0]
    assert query(f"SELECT count(*) FROM {collection}") == [(2,)]


def test_replaces_at_once_leave_exactly_one_whole_record(client: httpx.Client) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(lambda n: put(client, "prefs", {"n": n, "m": n}, replace=True), range(24))
        )
    assert {answer.status_code for answer in answers} == {201}
    (only,) = listed(client, "prefs")
    assert only["n"] == only["m"]


def test_a_repeated_write_does_not_undo_a_later_one(client: httpx.Client) -> None:
    first = put(client, "prefs", {"v": 1}, replace=True, key="a")
    put(client, "prefs", {"v": 2}, replace=True, key="b")
    again = put(client, "prefs", {"v": 1}, replace=True, key="a")
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert listed(client, "prefs") == [{"v": 2}]
    assert put(client, "prefs", {"v": 3}, replace=True, key="a").status_code == 409


def test_search_finds_what_was_just_written(client: httpx.Client) -> None:
    put(client, "note", {"text": "the green tea is in the kitchen"})
    put(client, "note", {"text": "trains to Vienna leave at nine"})
    put(client, "prefs", {"text": "trains to Vienna"})
    found = client.post(
        f"{ARCHIVAL}/search", json={"query": "when do trains to Vienna leave", "kind": "note"}
    ).json()["records"]
    assert found[0]["data"] == {"text": "trains to Vienna leave at nine"}
    scores = [record["score"] for record in found]
    assert scores == sorted(scores, reverse=True)
    assert {record["kind"] for record in found} == {"note"}
    limited = client.post(f"{ARCHIVAL}/search", json={"query": "trains", "limit": 1})
    assert len(limited.json()["records"]) == 1


def test_search_without_a_query_gives_the_newest(client: httpx.Client) -> None:
    put(client, "note", {"n": 1})
    put(client, "note", {"n": 2})
    for query in (None, "", "  "):
        found = client.post(f"{ARCHIVAL}/search", json={"query": query, "kind": "note"})
        records = found.json()["records"]
        assert [(record["data"], record["score"]) for record in records] == [
            ({"n": 2}, None),
            ({"n": 1}, None),
        ]


def test_the_kind_of_mem0_is_reserved(client: httpx.Client) -> None:
    answer = put(client, "mem0", {"memory": "x"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "kind")
