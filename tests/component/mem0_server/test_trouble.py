"""Connections that break and clients that dawdle."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg

RECALL = "/agents/helper/humans/ada/recall"


def test_broken_connections_are_never_our_fault(
    client: httpx.Client, query: Callable[..., list[tuple[Any, ...]]]
) -> None:
    """Every message that was acknowledged is there once, and none was answered with a 500."""
    stop = threading.Event()
    answers: list[tuple[str, int]] = []

    def write(writer: int) -> None:
        number = 0
        while not stop.is_set():
            content = f"{writer}:{number}"
            body = {"role": "user", "content": content}
            headers = {"Idempotency-Key": content}
            answer = client.post(RECALL, json=body, headers=headers)
            answers.append((content, answer.status_code))
            if answer.status_code in (200, 201):
                number += 1

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for writer in writers:
        writer.start()
    cut = 0
    while cut < 60:
        cut += len(
            query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'mem0' AND datname ="
                " current_database()"
            )
        )
    stop.set()
    for writer in writers:
        writer.join()
    statuses = {status for _, status in answers}
    assert statuses <= {200, 201, 503}
    assert 503 in statuses
    stored = [row[0] for row in query("SELECT content FROM recall ORDER BY id")]
    assert len(stored) == len(set(stored))
    assert {content for content, status in answers if status != 503} <= set(stored)


def test_a_body_that_dawdles_is_refused(
    dsn: str, new_settings: Callable[..., Any], start: Callable[[Any], Any]
) -> None:
    server = start(new_settings(dsn, body_timeout=0.2))
    key = server.client.headers["X-API-Key"]
    port = int(server.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as slow:
        head = f"PUT /humans/ada HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n"
        slow.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
        with slow.makefile("rb") as stream:
            answer = stream.read().decode()  # to the end: the connection is closed
    assert answer.startswith("HTTP/1.1 408 ")
    assert "request_timeout" in answer


def ends_within(stream: socket.socket, seconds: float) -> bool:
    """Whether the server closes the connection; what it sends until then is thrown away."""
    stream.settimeout(seconds)
    try:
        while stream.recv(65536):
            continue
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def connected(server: Any) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=5)


def test_a_head_that_dawdles_or_never_ends_is_cut_off(
    dsn: str, new_settings: Callable[..., Any], start: Callable[[Any], Any]
) -> None:
    server = start(new_settings(dsn, head_timeout=0.3))
    for sent in (b"", b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "):
        with connected(server) as slow:
            slow.sendall(sent)
            assert ends_within(slow, 20)
    with connected(server) as kept:  # a second request on the same connection
        kept.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert kept.recv(4096).startswith(b"HTTP/1.1 200")
        kept.sendall(b"GET /hea")
        assert ends_within(kept, 20)
    patient = start(new_settings(dsn))
    with connected(patient) as endless:
        endless.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        with contextlib.suppress(OSError):
            for number in range(400):
                endless.sendall(b"X-%d: %s\r\n" % (number, b"y" * 1000))
        assert ends_within(endless, 5)  # long before the ten seconds are over
    assert patient.client.get("/health").status_code == 200


def test_an_answer_that_nobody_reads_is_dropped(
    dsn: str, new_settings: Callable[..., Any], start: Callable[[Any], Any]
) -> None:
    server = start(new_settings(dsn, unread_timeout=0.3))
    key = server.client.headers["X-API-Key"]
    server.client.put("/agents/helper", json={"name": "Helper", "persona": ""})
    server.client.put("/humans/ada", json={})
    for _ in range(40):
        server.client.post(RECALL, json={"role": "user", "content": "x" * 1_000_000})
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))
    with slow:
        head = f"GET {RECALL}?limit=40 HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\n\r\n"
        slow.sendall(head.encode())
        slow.settimeout(20)
        first = slow.recv(4096)
        assert first.startswith(b"HTTP/1.1 200")
        time.sleep(2)  # reads nothing; the limit is 0.3 s
        assert ends_within(slow, 20)
    whole = server.client.get(RECALL, params={"limit": 40})
    assert len(whole.json()["messages"]) == 40


def test_too_many_requests_at_once_are_told_to_come_back(
    dsn: str,
    new_settings: Callable[..., Any],
    start: Callable[[Any], Any],
    wait: Callable[..., Any],
) -> None:
    server = start(new_settings(dsn, max_requests=2))
    server.client.put("/agents/helper", json={"name": "Helper", "persona": ""})
    server.client.put("/humans/ada", json={})

    def append() -> int:
        while True:  # a request of ours below may have been first
            answer = server.client.post(RECALL, json={"role": "user", "content": "x"})
            if answer.status_code != 503:
                return answer.status_code

    with psycopg.connect(dsn) as holding, ThreadPoolExecutor(2) as threads:
        holding.execute("LOCK TABLE recall")
        held = [threads.submit(append) for _ in range(2)]
        refused = wait(
            lambda: (answer := server.client.get("/agents/helper")).status_code == 503 and answer,
            "a refusal",
        )
        assert refused.json()["error"]["code"] == "overloaded"
        assert "Retry-After" in refused.headers
        assert server.client.get("/health").status_code == 200
        holding.rollback()
        assert [one.result() for one in held] == [201, 201]
    assert server.client.get("/agents/helper").status_code == 200
