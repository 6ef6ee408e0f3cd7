"""The server as the cluster runs it: processes that start, share a database and stop."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import httpx
import psycopg

KEY = "mk_component-test-key-1234567890"


def test_replicas_keep_order_idempotency_and_replace(
    spawn: Callable[..., Any],
    scripted_ollama: Any,
    query: Callable[..., list[tuple[Any, ...]]],
) -> None:
    # One indexes for all; the writes of the others reach it through the queue.
    replicas = [spawn(), spawn(OLLAMA_BASE_URL=scripted_ollama.url), spawn()]
    clients = [replica.client for replica in replicas]
    clients[0].put("/agents/helper", json={"name": "Helper", "persona": ""})
    for human in ("ada", "bob"):
        clients[0].put(f"/humans/{human}", json={"name": human})
    recall = "/agents/helper/humans/ada/recall"

    def conversation(writer: int) -> None:
        """Each message is sent to two replicas at once, under one key."""
        for number in range(12):
            append = partial(
                httpx.Client.post,
                url=recall,
                json={"role": "user", "content": f"{writer}:{number}"},
                headers={"Idempotency-Key": f"{writer}-{number}"},
            )
            pair = [clients[(number + writer + offset) % 3] for offset in (0, 1)]
            with ThreadPoolExecutor(2) as both:
                answers = list(both.map(append, pair))
            assert sorted(answer.status_code for answer in answers) == [200, 201]
            assert answers[0].json() == answers[1].json()

    def replacing(writer: int) -> None:
        for number in range(10):
            value = f"{writer}:{number}"
            answer = clients[writer].post(
                "/agents/helper/humans/bob/archival",
                json={"kind": "p", "data": {"a": value, "b": value}, "replace": True},
            )
            assert answer.status_code == 201
            seen = clients[(writer + 1) % 3].get("/agents/helper/humans/bob/archival").json()
            assert len(seen["records"]) == 1
            assert seen["records"][0]["data"]["a"] == seen["records"][0]["data"]["b"]

    with ThreadPoolExecutor(6) as threads:
        work = [threads.submit(conversation, writer) for writer in range(3)]
        work += [threads.submit(replacing, writer) for writer in range(3)]
        for one in work:
            one.result()

    seen = [
        [m["content"] for m in client.get(recall, params={"limit": 1000}).json()["messages"]]
        for client in clients
    ]
    assert seen[0] == seen[1] == seen[2]
    assert sorted(seen[0]) == sorted(f"{w}:{n}" for w in range(3) for n in range(12))
    for writer in range(3):
        mine = [content for content in seen[0] if content.startswith(f"{writer}:")]
        assert mine == [f"{writer}:{number}" for number in range(12)]
    assert query("SELECT count(*) FROM archival WHERE human_id = 'bob'") == [(1,)]
    found = clients[1].post(
        "/agents/helper/humans/bob/archival/search", json={"query": "a b", "kind": "p"}
    )
    assert len(found.json()["records"]) == 1


def test_a_stop_loses_no_request(
    spawn: Callable[..., Any],
    dsn: str,
    query: Callable[..., list[tuple[Any, ...]]],
    wait: Callable[..., Any],
) -> None:
    replica = spawn(DRAIN_DELAY="1")
    replica.client.put("/agents/helper", json={"name": "Helper", "persona": ""})
    replica.client.put("/humans/ada", json={})
    acknowledged: list[int] = []
    told_to_leave: list[bool] = []

    def append() -> httpx.Response:
        answer = replica.client.post(
            "/agents/helper/humans/ada/recall", json={"role": "user", "content": "x"}
        )
        assert answer.status_code == 201, answer.text
        acknowledged.append(answer.json()["id"])
        return answer

    def write() -> None:
        """Goes on for some requests after the signal, as a balancer that learns of it late."""
        more = 3
        while more:
            if append().headers.get("connection") == "close":
                told_to_leave.append(True)
                more -= 1

    with ThreadPoolExecutor(4) as threads:
        writers = [threads.submit(write) for _ in range(3)]
        wait(lambda: len(acknowledged) >= 20, "some messages")
        replica.popen.send_signal(signal.SIGTERM)
        wait(lambda: told_to_leave, "an answer that says to go elsewhere")
        assert replica.client.get("/ready").json()["error"]["code"] == "draining"
        for writer in writers:
            writer.result(10)
        with psycopg.connect(dsn) as holding:
            holding.execute("LOCK TABLE recall")
            before = len(acknowledged)
            last = threads.submit(append)
            wait(lambda: "Lock" in str(_waiting(dsn)), "the last request to hang")

            def refused() -> bool:
                try:
                    return replica.client.get("/health").is_error
                except httpx.TransportError:
                    return True

            wait(refused, "the end of the drain's delay")
            assert len(acknowledged) == before
        last.result(10)
    assert replica.popen.wait(20) == 0
    stored = [row[0] for row in query("SELECT id FROM recall ORDER BY id")]
    assert sorted(acknowledged) == stored


def test_it_serves_on_while_somebody_comes_but_not_for_ever(spawn: Callable[..., Any]) -> None:
    replica, delay = spawn(DRAIN_DELAY="0.5"), 0.5
    replica.client.put("/humans/ada", json={})
    replica.popen.send_signal(signal.SIGTERM)
    begun, served = time.monotonic(), 0.0
    with suppress(httpx.TransportError):
        while served < 30:
            assert replica.client.get("/humans/ada").status_code == 200
            served = time.monotonic() - begun
    assert 2 * delay < served < 30
    assert replica.popen.wait(20) == 0


def _waiting(dsn: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT wait_event_type FROM pg_stat_activity WHERE application_name = 'mem0'"
        ).fetchall()


def test_health_is_up_at_once_without_database_or_ollama(
    spawn: Callable[..., Any], wait: Callable[..., Any]
) -> None:
    replica = spawn(DATABASE_URL="postgresql://127.0.0.1:9/mem0", DATABASE_USER="nobody")
    assert replica.client.get("/health").json()["status"] == "ok"
    for path in ("/ready", "/agents/helper", "/status"):
        answer = replica.client.get(path)
        assert answer.status_code == 503, path
        assert answer.json()["error"]["code"] == "database_unavailable"
        assert "Retry-After" in answer.headers
    assert replica.client.get("/metrics").status_code == 200


def test_logs_are_structured_and_hold_no_text(spawn: Callable[..., Any]) -> None:
    replica = spawn(DRAIN_DELAY="0")
    replica.client.put("/agents/helper", json={"name": "Helper", "persona": ""})
    replica.client.put("/humans/ada", json={})
    replica.client.post(
        "/agents/helper/humans/ada/recall",
        json={"role": "user", "content": "my-private-words"},
        headers={"X-Request-ID": "traced-1"},
    )
    replica.client.get("/status", headers={"X-API-Key": "mk_wrong-key-1234567890"})
    replica.popen.terminate()
    replica.popen.wait(10)
    lines = [httpx.Response(200, text=line).json() for line in replica.log.read_text().splitlines()]
    (traced,) = [line for line in lines if line.get("request_id") == "traced-1"]
    assert traced["route"] == "/agents/{agent_id}/humans/{human_id}/recall"
    assert traced["status"] == 201
    text = replica.log.read_text()
    for private in ("my-private-words", KEY, "mk_wrong-key", "/humans/ada"):
        assert private not in text


def test_a_wrong_setting_ends_the_start_with_its_name() -> None:
    env = {**os.environ, "DATABASE_URL": "mysql://x", "MEM0_ADMIN_API_KEY": "default_dev_key"}
    done = subprocess.run(
        [sys.executable, "-m", "mem0_server"], env=env, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 2
    assert "DATABASE_URL: must start with postgresql://" in done.stderr
    assert "MEM0_ADMIN_API_KEY: it is a placeholder" in done.stderr
    assert "Traceback" not in done.stderr
    assert "default_dev_key" not in done.stderr
