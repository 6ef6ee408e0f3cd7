"""Connections that break and clients that dawdle."""

import socket
import threading
from collections.abc import Callable
from typing import Any

import httpx

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
