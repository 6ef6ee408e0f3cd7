from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

RECALL = "/agents/helper/humans/ada/recall"


def contents(client: httpx.Client, **params: Any) -> list[str]:
    messages = client.get(RECALL, params=params).json()["messages"]
    return [message["content"] for message in messages]


def test_the_newest_come_oldest_first(client: httpx.Client) -> None:
    answers = [
        client.post(RECALL, json={"role": "user", "content": str(number)}) for number in range(12)
    ]
    assert {answer.status_code for answer in answers} == {201}
    ids = [answer.json()["id"] for answer in answers]
    assert ids == sorted(set(ids))
    assert contents(client) == [str(number) for number in range(2, 12)]
    assert contents(client, limit=2) == ["10", "11"]
    assert contents(client, limit=2, before=ids[10]) == ["8", "9"]


def test_the_same_key_stores_once_even_at_once(client: httpx.Client) -> None:
    def append(number: int) -> httpx.Response:
        return client.post(
            RECALL,
            json={"role": "user", "content": "only once"},
            headers={"Idempotency-Key": "k1"},
        )

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(append, range(16)))
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [201]
    assert len({answer.text for answer in answers}) == 1
    assert contents(client) == ["only once"]
    other = client.post(
        RECALL, json={"role": "user", "content": "else"}, headers={"Idempotency-Key": "k1"}
    )
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_conflict")
    assert contents(client) == ["only once"]


def test_the_key_belongs_to_one_conversation(client: httpx.Client) -> None:
    client.put("/humans/bob", json={"name": "Bob"})
    for human in ("ada", "bob"):
        answer = client.post(
            f"/agents/helper/humans/{human}/recall",
            json={"role": "user", "content": human},
            headers={"Idempotency-Key": "k"},
        )
        assert answer.status_code == 201


def test_an_unknown_agent_or_human_creates_nothing(
    client: httpx.Client, query: Callable[..., list[tuple[Any, ...]]]
) -> None:
    body = {"role": "user", "content": "x"}
    record = {"kind": "k", "data": {}}
    for agent, human, code in (
        ("ghost", "ada", "agent_not_found"),
        ("helper", "ghost", "human_not_found"),
    ):
        base = f"/agents/{agent}/humans/{human}"
        key = {"Idempotency-Key": "k"}
        answers = [
            client.post(f"{base}/recall", json=body),
            client.post(f"{base}/recall", json=body, headers=key),
            client.get(f"{base}/recall"),
            client.post(f"{base}/archival", json=record),
            client.post(f"{base}/archival", json={**record, "replace": True}, headers=key),
            client.get(f"{base}/archival"),
            client.post(f"{base}/archival/search", json={"query": None}),
        ]
        assert [answer.json()["error"]["code"] for answer in answers] == [code] * len(answers)
        assert {answer.status_code for answer in answers} == {404}
    for table in ("recall", "archival", "archival_keys", "index_jobs"):
        assert query(f"SELECT count(*) FROM {table}") == [(0,)]
    assert query("SELECT id FROM humans") == [("ada",)]
