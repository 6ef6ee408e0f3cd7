"""A real Mem0 server of our own: a process on loopback with a real PostgreSQL behind it."""

from __future__ import annotations

import asyncio
import functools
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.dev.servers import mem0_server
from app.rag import mem0_client
from app.rag.mem0_keys import fingerprint


class Mem0Process:
    """``python -m mem0_server`` on a port of its own; survives nothing, can be started again."""

    def __init__(self, dsn: str, port: int, ollama_url: str, scratch: Path) -> None:
        self.keys = scratch / "server-keys"
        self.keys.mkdir()
        (self.keys / "current").write_text(new_key())
        self.server = mem0_server(
            port,
            scratch / "server.log",
            dsn=dsn,
            keys=self.keys,
            ollama_url=ollama_url,
            models=("chat-model", "embed-model"),
            scratch=scratch / "mem0",
        )
        self.url = self.server.url
        self.prepare = self.server.prepare
        self.start = self.server.start
        self.stop = self.server.stop

    @property
    def key(self) -> str:
        return (self.keys / "current").read_text()

    def get(self, path: str, key: str | None = None) -> httpx.Response:
        return httpx.get(self.url + path, headers={"X-API-Key": key or self.key}, timeout=10)

    def accepts(self, *keys: str) -> bool:
        """Whether exactly these keys are live."""
        accepted = self.get("/status", keys[0])
        return accepted.is_success and set(accepted.json()["accepted_keys"]) == {
            fingerprint(key) for key in keys
        }


def new_key() -> str:
    return f"mk_{secrets.token_urlsafe(32)}"


@pytest.fixture
def make_key() -> Callable[[], str]:
    return new_key


@pytest.fixture
def eventually() -> Callable[..., None]:
    """``eventually(condition, seconds)`` returns when it holds and fails when it never does."""

    def wait(condition: Callable[[], Any], seconds: float = 15) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"not so within {seconds} s"
            time.sleep(0.02)

    return wait


@pytest.fixture
def soon(eventually: Callable[..., None]) -> Callable[..., Any]:
    """``await soon(condition, seconds)`` is ``eventually`` for an event loop."""
    return functools.partial(asyncio.to_thread, eventually)


@pytest.fixture(scope="session")
def start_mem0(
    postgres_dsn_factory: Callable[[str], str], free_port: Callable[[], int]
) -> Iterator[Callable[[str, Path], Mem0Process]]:
    """``start_mem0(ollama_url, scratch)``: a server with a migrated, empty database."""
    started: list[Mem0Process] = []

    def start(ollama_url: str, scratch: Path) -> Mem0Process:
        server = Mem0Process(postgres_dsn_factory("mem0"), free_port(), ollama_url, scratch)
        server.prepare()
        server.start()
        started.append(server)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def mem0(
    start_mem0: Callable[[str, Path], Mem0Process],
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Mem0Process:
    """A server for all that needs no model: its Ollama is down. Tests keep to ids of their own."""
    return start_mem0(f"http://127.0.0.1:{free_port()}", tmp_path_factory.mktemp("mem0"))


@pytest.fixture
def own_mem0(
    start_mem0: Callable[[str, Path], Mem0Process], scripted_ollama: Any, tmp_path: Path
) -> Iterator[Mem0Process]:
    """A server of one test's own, with a scripted Ollama."""
    server = start_mem0(scripted_ollama.url, tmp_path)
    yield server
    server.stop()


@pytest.fixture
def memory_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``memory_at(server, **settings)``: the module under test, set up for it, with no client."""

    def set_up(server: Mem0Process, **settings: Any) -> Any:
        usual = {"mem0_api_key": server.key, "mem0_api_key_dir": None, "tls_ca_dir": None}
        made = SimpleNamespace(use_mem0=True, mem0_endpoint=server.url, **usual | settings)
        monkeypatch.setattr(mem0_client, "SETTINGS", made)
        monkeypatch.setattr(mem0_client, "_mem0_client", None)
        return mem0_client

    return set_up


@pytest.fixture
def memory(mem0: Mem0Process, memory_at: Callable[..., Any]) -> Any:
    """The module under test with the shared server."""
    return memory_at(mem0)


@pytest.fixture
def human() -> str:
    """An id that no other test uses."""
    return f"human-{uuid4()}"
