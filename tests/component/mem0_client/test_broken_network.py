"""What a server that is not there, says nothing or hangs up costs the caller: real sockets."""

import socket
import threading
import time
from contextlib import ExitStack

import pytest

from app.rag.mem0_errors import (
    Mem0DownError,
    Mem0RefusedError,
    Mem0UnauthorizedError,
    Mem0UnavailableError,
    Mem0UnreachableError,
)
from app.rag.mem0_http import CONNECT_TIMEOUT, Mem0Client

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n"
MESSAGES = OK + b'{"messages":[]}'
HANG_UP = b""
SAID = '{"error":{"code":"too_long","message":"dear diary","field":"content"}}'


def answered(status: str, body: str, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


READY = answered("200 OK", '{"status":"ready"}', "Connection: keep-alive")


class Peer:
    """A socket that answers each request with the next of ``answers``; ``None`` says nothing."""

    def __init__(self, *answers: bytes | None, port: int = 0) -> None:
        self.requests: list[str] = []
        self._answers = list(answers)
        self._socket = socket.create_server(("127.0.0.1", port))
        self._over = threading.Event()
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection) -> None:
        with connection, connection.makefile("rb") as reader:
            self._answer(connection, reader)

    def _answer(self, connection, reader) -> None:
        while request := reader.readline():
            self.requests.append(request.decode())
            length = 0
            while (header := reader.readline()) not in (b"\r\n", b""):
                self.requests[-1] += header.decode()
                if header.lower().startswith(b"content-length:"):
                    length = int(header.split(b":")[1])
            reader.read(length)
            answer = self._answers.pop(0) if self._answers else HANG_UP
            if answer is None:
                self._over.wait(10)
                return
            connection.sendall(answer)
            if answer == HANG_UP:
                return


def test_a_refused_connection_costs_nothing_and_the_next_call_does_not_even_try(free_port):
    client = Mem0Client("mk_test", f"http://127.0.0.1:{free_port()}")
    started = time.perf_counter()
    with pytest.raises(Mem0UnreachableError, match="refused") as first:
        client.get_human("ann")
    with pytest.raises(Mem0DownError):
        client.get_human("ann")
    assert not isinstance(first.value, Mem0DownError)
    assert client.failing
    assert time.perf_counter() - started < CONNECT_TIMEOUT


def test_an_address_that_swallows_packets_costs_one_connect_timeout_for_all_calls():
    with ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # more than its queue holds: further handshakes get no answer
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        client = Mem0Client("mk_test", f"http://127.0.0.1:{full.getsockname()[1]}")
        started = time.perf_counter()
        for _ in range(8):
            with pytest.raises(Mem0UnreachableError):
                client.get_recall_memory("agent", "ann")
        assert CONNECT_TIMEOUT * 0.9 < time.perf_counter() - started < CONNECT_TIMEOUT + 0.4


def test_a_server_that_says_nothing_costs_one_timeout():
    with Peer(None) as peer:
        client = Mem0Client("mk_test", peer.url, timeout=0.3)
        started = time.perf_counter()
        for _ in range(5):
            with pytest.raises(Mem0UnreachableError):
                client.get_human("ann")
        assert time.perf_counter() - started < 0.6
        assert len(peer.requests) == 1


def test_a_dead_server_is_asked_again_in_the_background_and_serves_as_soon_as_it_is_back(
    free_port, eventually
):
    port = free_port()
    client = Mem0Client("mk_test", f"http://127.0.0.1:{port}")
    with pytest.raises(Mem0UnreachableError):
        client.get_human("ann")
    took = []
    for _ in range(200):
        started = time.perf_counter()
        with pytest.raises(Mem0DownError):
            client.get_human("ann")
        took.append(time.perf_counter() - started)
    assert sorted(took)[len(took) // 2] < 0.005
    with Peer(answered("503 x", SAID), READY, MESSAGES, port=port) as peer:
        eventually(lambda: not client.breaker.is_open)
        assert not client.failing
        assert client.get_recall_memory("agent", "ann") == []
        assert ["/ready" in request for request in peer.requests] == [True, True, False]
        assert "mk_test" not in "".join(peer.requests[:2])


def test_a_server_that_keeps_answering_that_it_cannot_is_left_alone_until_it_can(eventually):
    sorry = answered("503 x", SAID, "Retry-After: 1")
    with Peer(*[sorry] * 5, READY, MESSAGES) as peer:
        client = Mem0Client("mk_test", peer.url)
        for _ in range(5):
            with pytest.raises(Mem0UnavailableError):
                client.get_human("ann")
        eventually(lambda: len(peer.requests) == 6)
        eventually(lambda: not client.breaker.is_open)
        assert client.get_recall_memory("agent", "ann") == []


def test_a_closed_client_stops_asking(free_port):
    client = Mem0Client("mk_test", f"http://127.0.0.1:{free_port()}")
    before = set(threading.enumerate())
    with pytest.raises(Mem0UnreachableError):
        client.get_human("ann")
    (prober,) = set(threading.enumerate()) - before
    client.close()
    prober.join(10)
    assert not prober.is_alive()


@pytest.mark.parametrize("status", ["429 x", "502 x", "503 x", "504 x"])
def test_a_busy_server_is_asked_again_a_little_later(status):
    with Peer(answered(status, SAID), answered(status, SAID), MESSAGES) as peer:
        assert Mem0Client("mk_test", peer.url).get_recall_memory("agent", "ann") == []
        assert len(peer.requests) == 3


def test_one_that_says_when_to_come_back_is_not(eventually):
    with Peer(answered("503 x", SAID, "Retry-After: 1")) as peer:
        with pytest.raises(Mem0UnavailableError):
            Mem0Client("mk_test", peer.url).get_human("ann")
        assert len(peer.requests) == 1


def test_a_pooled_connection_that_broke_is_replaced_once_for_what_can_be_repeated():
    with Peer(MESSAGES, HANG_UP, MESSAGES) as peer:
        client = Mem0Client("mk_test", peer.url)
        for _ in range(2):
            assert client.get_recall_memory("agent", "ann") == []
        assert len(peer.requests) == 3


@pytest.mark.parametrize(
    "write",
    [
        lambda c: c.append_message("agent", "ann", {"role": "user", "content": "x"}),
        lambda c: c.create_archival_memory("agent", "ann", {}, "note"),
    ],
)
def test_a_write_is_repeated_under_one_key_that_keeps_it_single(write):
    with Peer(HANG_UP, MESSAGES) as peer:
        write(Mem0Client("mk_test", peer.url))
        first, second = peer.requests
        assert first == second
        assert "idempotency-key: " in first.lower()


def test_what_breaks_three_times_is_not_tried_a_fourth_time():
    with Peer(HANG_UP, HANG_UP, HANG_UP) as peer:
        with pytest.raises(Mem0UnreachableError):
            Mem0Client("mk_test", peer.url).get_human("ann")
        assert [r.split()[1] for r in peer.requests[:3]] == ["/humans/ann"] * 3


def test_ids_stay_one_segment_whatever_they_hold():
    with Peer(MESSAGES) as peer:
        Mem0Client("mk_test", peer.url).get_recall_memory("a/b", "ü?x#y/../%2F", limit=3)
        (request,) = peer.requests
        assert request.startswith(
            "GET /agents/a%2Fb/humans/%C3%BC%3Fx%23y%2F%2E%2E%2F%252F/recall?limit=3 HTTP/1.1"
        )


@pytest.mark.parametrize(
    ("answer", "error", "message", "failing"),
    [
        (answered("422 x", SAID), Mem0RefusedError, r"422 too_long \(field content\)$", False),
        (answered("503 x", SAID, "Retry-After: 7"), Mem0UnavailableError, "503 too_long", True),
        (answered("500 x", "<html>"), Mem0UnavailableError, "answered 500$", True),
        (answered("200 x", "<html>"), Mem0UnavailableError, "without a JSON object", True),
        (answered("401 x", SAID), Mem0UnauthorizedError, "refuses the key", True),
    ],
)
def test_an_answer_becomes_the_error_it_means_and_quotes_nobody(answer, error, message, failing):
    with Peer(answer) as peer:
        client = Mem0Client("mk_test", peer.url)
        with pytest.raises(error, match=message) as raised:
            client.get_human("ann")
        assert client.failing is failing
        assert "dear diary" not in str(raised.value)
        assert "mk_test" not in str(raised.value)
        assert getattr(raised.value, "retry_after", None) == (7 if b"Retry" in answer else None)


def test_without_a_key_nothing_is_sent():
    with Peer() as peer:
        with pytest.raises(Mem0UnauthorizedError, match="MEM0_API_KEY"):
            Mem0Client(None, peer.url).get_human("ann")
        assert peer.requests == []
