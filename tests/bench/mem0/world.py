"""PostgreSQL and servers for the rows: real processes, started as on a developer's machine."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg

from app.dev.postgres import Postgres
from app.dev.servers import Server, free_port, mem0_server
from tests.component.conftest import ScriptedOllama

KEY = f"mk_{secrets.token_urlsafe(32)}"
CONNECTIONS = 32
AGENT = "helper"
OPEN_SECONDS = 180.0


@dataclass
class World:
    """One PostgreSQL; servers come and go over databases of their own."""

    folder: Path
    postgres: Postgres
    ollama: ScriptedOllama
    _stack: ExitStack
    _ours: dict[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def opened(cls) -> Iterator[World]:
        """A world until the block ends."""
        with ExitStack() as stack:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="metis-bench-"))
            folder = Path(made)
            postgres = Postgres(folder / "data", folder / "postgres.log", durable=False)
            stack.callback(postgres.stop)
            postgres.start()
            ollama = ScriptedOllama()
            server = ollama.start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            (folder / "keys").mkdir()
            (folder / "keys" / "current").write_text(KEY)
            yield cls(folder, postgres, ollama, stack)

    def ours(self, name: str, ollama_url: str = "", embedding: str = "embed-model") -> str:
        """The URL of a Mem0 server over a database of that name; asked again, the same one."""
        if name not in self._ours:
            dsn = self.postgres.database(name)
            server = mem0_server(
                free_port(),
                self.folder / f"{name}.log",
                dsn=dsn,
                keys=self.folder / "keys",
                ollama_url=ollama_url or self.ollama.url,
                models=("chat-model", embedding),
                scratch=self.folder / f"{name}-scratch",
            )
            server.prepare()
            self._stack.callback(server.stop)
            server.start()
            self._ours[name] = server.url, dsn
            with self.client(server.url) as client:
                client.put(f"/agents/{AGENT}", json={"name": "Helper", "persona": ""})
                # It imports mem0ai behind its readiness, which takes a core for a while.
                deadline = time.monotonic() + OPEN_SECONDS
                while client.get("/status").json()["embeddings"]["status"] != "ok":
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"the index of {name} is not open")
                    time.sleep(0.1)
        return self._ours[name][0]

    def dsn(self, name: str) -> str:
        """The address of a database made by :meth:`ours`."""
        return self._ours[name][1]

    def run(self, module: str, **environment: str) -> str:
        """The URL of a server of this folder: ``python -m tests.bench.mem0.MODULE``."""
        log = self.folder / f"{module}.log"
        full = f"tests.bench.mem0.{module}"
        settings = {"BENCH_KEY": KEY, "MEM0_DIR": str(self.folder / module), **environment}
        server = Server(full, free_port(), "/health", settings, log)
        self._stack.callback(server.stop)
        server.start()
        return server.url

    def ends_with(self, end: Callable[[], object]) -> None:
        """Have ``end`` called when this world ends."""
        self._stack.callback(end)

    def client(self, url: str) -> httpx.Client:
        """A client with the key."""
        return httpx.Client(base_url=url, headers={"X-API-Key": KEY}, timeout=120)

    def humans(self, url: str, count: int = CONNECTIONS) -> None:
        """Make the humans ``h0`` to ``h<count - 1>``."""
        with self.client(url) as client:
            for number in range(count):
                client.put(f"/humans/h{number}", json={}).raise_for_status()

    def execute(self, dsn: str, *statements: str) -> None:
        """Run SQL past the servers."""
        with psycopg.connect(dsn, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)
