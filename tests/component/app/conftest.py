"""The app as it runs: uvicorn on loopback, a real PostgreSQL, a scripted Ollama."""

from __future__ import annotations

import asyncio
import hashlib
import json
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
import uvicorn
from sqlalchemy import make_url

from app.core.config import Settings, load_settings
from app.db.migrate import migrate
from app.dev.servers import mem0_server
from app.main import create_app
from app.rag import mem0_client

DATA = Path(__file__).parents[2] / "data"
KEYS = {
    "ann": ("ann-key", "user"),
    "ben": ("ben-key", "user"),
    "cid": ("cid-key", "admin"),
    "root": ("root-key", "admin"),
}


@dataclass(frozen=True)
class RunningApp:
    """A served app."""

    url: str
    settings: Settings

    @contextmanager
    def client(self, key: str | None = None) -> Iterator[httpx.Client]:
        """An HTTP client, with a bearer key where one is given."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with httpx.Client(base_url=self.url, timeout=30, headers=headers) as client:
            yield client


@pytest.fixture
def serve(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Settings], AbstractContextManager[RunningApp]]:
    """``with serve(settings) as running:`` serves the app in a thread; one at a time."""

    @contextmanager
    def serve(settings: Settings) -> Iterator[RunningApp]:
        monkeypatch.setattr(mem0_client, "SETTINGS", settings)
        monkeypatch.setattr(mem0_client, "_mem0_client", None)
        port = free_port()
        server = uvicorn.Server(
            uvicorn.Config(create_app(settings), host="127.0.0.1", port=port, log_config=None)
        )
        thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
        thread.start()
        deadline = threading.Event()
        while not server.started:
            assert thread.is_alive(), "the app did not start"
            deadline.wait(0.01)
        try:
            yield RunningApp(f"http://127.0.0.1:{port}", settings)
        finally:
            server.should_exit = True
            thread.join(timeout=30)
            assert not thread.is_alive(), "the app did not stop"

    return serve


class HoldingOllama:
    """The scripted Ollama with a chat that says "One two three" and then holds its breath.

    ``asked`` is set when it holds it, ``left`` when the client hangs up; ``go_on`` lets it finish
    with "four".
    """

    def __init__(self, upstream: str) -> None:
        self.asked = threading.Event()
        self.left = threading.Event()
        self.go_on = threading.Event()
        holder = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                return

            def do_GET(self) -> None:
                self.forward(b"")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path != "/api/chat":
                    return self.forward(body)
                self.send_response(200)
                self.end_headers()
                for word in ("One ", "two ", "three "):
                    self.say({"message": {"content": word}, "done": False})
                holder.asked.set()
                while not holder.go_on.is_set():
                    readable, _, _ = select.select([self.connection], [], [], 0.02)
                    if readable and not self.connection.recv(1, socket.MSG_PEEK):
                        holder.left.set()
                        return None
                self.say({"message": {"content": "four"}, "done": True})
                return None

            def say(self, line: dict[str, Any]) -> None:
                self.wfile.write(json.dumps(line).encode() + b"\n")

            def forward(self, body: bytes) -> None:
                answer = httpx.request(self.command, upstream + self.path, content=body)
                self.send_response(answer.status_code)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def holding_ollama(scripted_ollama: Any) -> Iterator[HoldingOllama]:
    """A running HoldingOllama."""
    holding = HoldingOllama(scripted_ollama.url)
    yield holding
    holding.go_on.set()
    holding.server.shutdown()
    holding.server.server_close()


@pytest.fixture(scope="session")
def make_dsn(postgres_server: str, postgres_dsn_factory: Callable[[str], str]) -> Callable[[], str]:
    """``make_dsn()`` gives the DSN of a new, migrated database: a copy of one migrated once."""
    migrated = postgres_dsn_factory("metis")
    migrate(load_settings(database_url=migrated))
    template = make_url(migrated).database

    def make() -> str:
        name = f"metis_{uuid4().hex[:12]}"
        with psycopg.connect(postgres_server, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return make_url(migrated).set(database=name).render_as_string(hide_password=False)

    return make


@pytest.fixture
def app_settings(make_dsn: Callable[[], str], scripted_ollama: Any) -> Callable[..., Settings]:
    """``app_settings(**overrides)``: scripted Ollama, a database of its own, no Mem0, no keys."""

    def build(**overrides: Any) -> Settings:
        plain = {
            "ollama_base_url": scripted_ollama.url,
            "default_model": "chat-model",
            "default_embedding_model": "embed-model",
            "auth_mode": "none",
            "use_mem0": False,
        }
        if "database_url" not in overrides:
            plain["database_url"] = make_dsn()
        return load_settings(**{**plain, **overrides})

    return build


@pytest.fixture
def running(
    serve: Callable[[Settings], AbstractContextManager[RunningApp]],
    app_settings: Callable[..., Settings],
) -> Iterator[RunningApp]:
    """The app for the single local user, without Mem0."""
    with serve(app_settings()) as running:
        yield running


@pytest.fixture
def client(running: RunningApp) -> Iterator[httpx.Client]:
    """A client of ``running``."""
    with running.client() as client:
        yield client


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    """A file with the key hashes of ann and ben (users) and cid and root (admins)."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [key_entry(user) for user in KEYS]}), encoding="utf-8")
    return path


@pytest.fixture
def with_keys(
    serve: Callable[[Settings], AbstractContextManager[RunningApp]],
    app_settings: Callable[..., Settings],
    keys_file: Path,
) -> Iterator[RunningApp]:
    """The app for several users; their keys are ``ann-key``, ``ben-key``, ``root-key``."""
    with serve(app_settings(auth_mode="keys", auth_keys_file=keys_file)) as running:
        yield running


@pytest.fixture(scope="session")
def mem0_key() -> str:
    """The key of ``mem0``."""
    return "mk_" + "k" * 43


@pytest.fixture(scope="session")
def mem0(
    mem0_key: str,
    postgres_dsn_factory: Callable[[str], str],
    free_port: Callable[[], int],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """The address of a Mem0 server; it has no Ollama, which it needs for semantic search only."""
    folder: Path = tmp_path_factory.mktemp("mem0")
    (folder / "keys").mkdir()
    (folder / "keys" / "current").write_text(mem0_key)
    server = mem0_server(
        free_port(),
        folder / "log",
        dsn=postgres_dsn_factory("mem0"),
        keys=folder / "keys",
        ollama_url=f"http://127.0.0.1:{free_port()}",
        models=("chat-model", "embed-model"),
        scratch=folder / "scratch",
    )
    server.prepare()
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
def remembering(
    serve: Callable[[Settings], AbstractContextManager[RunningApp]],
    app_settings: Callable[..., Settings],
    mem0: str,
    mem0_key: str,
    keys_file: Path,
) -> Iterator[RunningApp]:
    """The app with keys and Mem0, whose memory of a user lasts through all tests."""
    settings = app_settings(
        use_mem0=True,
        mem0_endpoint=mem0,
        mem0_api_key=mem0_key,
        auth_mode="keys",
        auth_keys_file=keys_file,
    )
    with serve(settings) as running:
        yield running


@pytest.fixture
def documents() -> Callable[..., list[tuple[str, tuple[str, bytes]]]]:
    """``documents("a.md", ...)``: files of tests/data as a multipart list; all when none named."""

    def read(*names: str) -> list[tuple[str, tuple[str, bytes]]]:
        paths = [DATA / name for name in names] or sorted(
            path for path in DATA.iterdir() if path.suffix != ".yaml"
        )
        return [("files", (path.name, path.read_bytes())) for path in paths]

    return read


@pytest.fixture
def events() -> Callable[[httpx.Response], list[tuple[str, dict[str, Any]]]]:
    """``events(response)``: the server-sent events of a finished stream, comments left out."""

    def read(response: httpx.Response) -> list[tuple[str, dict[str, Any]]]:
        assert response.headers["content-type"].startswith("text/event-stream")
        found = []
        for block in response.text.strip().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n") if line[0] != ":")
            if fields:
                found.append((fields["event"], json.loads(fields["data"])))
        return found

    return read


def key_entry(user: str) -> dict[str, str]:
    """The entry of a user in the keys file."""
    key, role = KEYS[user]
    return {"user": user, "role": role, "sha256": hashlib.sha256(key.encode()).hexdigest()}
