"""Mem0 servers on loopback, over a real PostgreSQL."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import structlog
import uvicorn
from pydantic import SecretStr

from app.dev.servers import Server
from mem0_server.app import create_app
from mem0_server.prepare import prepare
from mem0_server.serve import configuration
from mem0_server.settings import Settings

KEY = "mk_component-test-key-1234567890"


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 30) -> Any:
    """The first true value of ``condition``; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    pytest.fail(f"waited {seconds} s in vain for {what}")


@pytest.fixture
def wait() -> Callable[..., Any]:
    return wait_until


@dataclass
class Running:
    """A server in a thread of this process, on a real socket."""

    settings: Settings
    client: httpx.Client
    url: str
    server: uvicorn.Server
    thread: threading.Thread = field(repr=False)

    def stop(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()


def run_in_thread(settings: Settings) -> Running:
    app = create_app(settings)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(configuration(app, settings))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the server's start")
    client = httpx.Client(base_url=url, headers={"X-API-Key": KEY}, timeout=20)
    return Running(settings, client, url, server, thread)


@pytest.fixture
def new_settings(tmp_path: Path) -> Callable[..., Settings]:
    """``new_settings(dsn, ollama_url, **overrides)``, quick to retry."""

    def make(dsn: str, ollama_url: str = "http://127.0.0.1:9", **overrides: Any) -> Settings:
        values: dict[str, Any] = {
            "database_url": dsn,
            "mem0_admin_api_key": KEY,
            "ollama_base_url": ollama_url,
            "llm_model": "chat-model",
            "embedding_model": "embed-model",
            "mem0_dir": tmp_path / "mem0",
            "index_poll": 0.2,
            "drain_timeout": 3,
            **overrides,
        }
        if overrides.get("mem0_api_key_dir"):
            values.pop("mem0_admin_api_key")
        return Settings(**values)

    return make


@pytest.fixture(scope="session", autouse=True)
def _plain_logs() -> None:
    """Lines without the local variables of every frame, which take seconds to print."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )


@pytest.fixture(scope="session", autouse=True)
def _mem0ai_is_imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Once, before any server: on a busy machine it takes longer than a search waits."""
    os.environ["MEM0_TELEMETRY"] = "false"
    os.environ["MEM0_DIR"] = str(tmp_path_factory.mktemp("mem0ai"))
    importlib.import_module("mem0.memory.main")


@pytest.fixture(scope="session")
def database(postgres_dsn_factory: Callable[[str], str]) -> str:
    """One migrated database for all tests; each finds it empty (see ``dsn``)."""
    made = postgres_dsn_factory("mem0")
    prepare(Settings(database_url=made, mem0_admin_api_key=SecretStr(KEY)), lambda _: None)
    return made


@pytest.fixture
def dsn(database: str) -> str:
    """A migrated database with nothing in it."""
    with psycopg.connect(database) as connection:
        for (name,) in connection.execute("SELECT name FROM index_collections").fetchall():
            connection.execute(f'DROP TABLE "{name}"')
        tables = "agents, humans, recall, archival, archival_keys, mem0_messages, mem0_history"
        jobs = "index_jobs, index_collections, infer_jobs"
        connection.execute(f"TRUNCATE {tables}, {jobs} RESTART IDENTITY")
    return database


@pytest.fixture
def query(dsn: str) -> Callable[..., list[tuple[Any, ...]]]:
    """``query(sql, *arguments)`` asks the database past the server."""

    def ask(sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(dsn, autocommit=True) as connection:
            cursor = connection.execute(sql, arguments)
            return cursor.fetchall() if cursor.description else []

    return ask


@pytest.fixture
def start() -> Iterator[Callable[[Settings], Running]]:
    """``start(settings)`` runs a server in this process until the test ends."""
    with ExitStack() as stack:

        def begin(settings: Settings) -> Running:
            running = run_in_thread(settings)
            stack.callback(running.stop)
            return running

        yield begin


@pytest.fixture
def another(
    dsn: str,
    scripted_ollama: Any,
    new_settings: Callable[..., Settings],
    start: Callable[[Settings], Running],
) -> Callable[..., Running]:
    """``another(**settings)``: one more server on the database, with Ollama up."""

    def begin(**settings: Any) -> Running:
        return start(new_settings(dsn, scripted_ollama.url, **settings))

    return begin


@pytest.fixture
def server(another: Callable[..., Running]) -> Running:
    """One server with Ollama up."""
    return another()


@pytest.fixture
def client(server: Running) -> httpx.Client:
    """A client with the key; the agent ``helper`` and the human ``ada`` exist."""
    server.client.put("/agents/helper", json={"name": "Helper", "persona": "kind"})
    server.client.put("/humans/ada", json={"name": "Ada"})
    return server.client


@dataclass
class Process:
    """``python -m mem0_server`` as the cluster runs it."""

    popen: subprocess.Popen[bytes]
    url: str
    started_in: float
    client: httpx.Client
    log: Path


@pytest.fixture
def spawn(
    tmp_path: Path, free_port: Callable[[], int], dsn: str
) -> Iterator[Callable[..., Process]]:
    """``spawn(**environment)`` starts a server process on the test's database."""
    with ExitStack() as stack:

        def begin(**environment: str) -> Process:
            port = free_port()
            settings = {
                "DATABASE_URL": dsn,
                "MEM0_ADMIN_API_KEY": KEY,
                "OLLAMA_BASE_URL": "http://127.0.0.1:9",
                "EMBEDDING_MODEL": "embed-model",
                "MEM0_DIR": str(tmp_path / "mem0"),
                **environment,
            }
            log = tmp_path / f"server-{port}.log"
            server = Server("mem0_server", port, "/health", settings, log)
            began = time.monotonic()
            server.start()
            stack.callback(server.stop, signal.SIGKILL)
            assert server.child is not None
            started_in = time.monotonic() - began
            client = stack.enter_context(
                httpx.Client(base_url=server.url, headers={"X-API-Key": KEY}, timeout=20)
            )
            return Process(server.child.popen, server.url, started_in, client, log)

        yield begin
