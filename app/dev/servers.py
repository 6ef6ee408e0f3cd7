"""The app and the Mem0 server as processes: the programs, the preparation and the settings that
the cluster uses, on ports of 127.0.0.1.
"""

from __future__ import annotations

import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from app.dev.children import Child

PREPARE_SECONDS = 120.0
START_SECONDS = 60.0
LOOPBACK = "127.0.0.1"


@dataclass(slots=True)
class Server:
    """``python -m MODULE``, prepared by ``python -m MODULE.prepare``.

    Attributes:
        module: the Python module.
        port: on 127.0.0.1; see :func:`free_port`.
        ready: the path that answers 200 once it serves.
        environment: its settings; ours go along beneath.
        log: the file its output goes to.
    """

    module: str
    port: int
    ready: str
    environment: dict[str, str]
    log: Path
    child: Child | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{LOOPBACK}:{self.port}"

    def preparing(self) -> Child:
        """Start its preparation: wait for what it needs, migrate its database."""
        return self._run(f"{self.module}.prepare")

    def prepare(self) -> None:
        """Prepare it; raises LocalRunError with the end of its log."""
        self.preparing().finish(PREPARE_SECONDS)

    def begin(self) -> None:
        """Start it and return at once."""
        self.child = self._run(self.module)

    def wait(self, path: str | None = None) -> None:
        """Return once it is ready, or answers 200 on ``path``; raises LocalRunError."""
        if self.child is not None:
            where = f"{self.url}{path or self.ready}"
            self.child.wait_until(lambda: _answers(where), START_SECONDS, "its start")

    def start(self) -> None:
        """Start it and return once it is ready."""
        self.begin()
        self.wait()

    def stop(self, how: signal.Signals | None = None) -> None:
        """End it and wait for the end; it can be started again."""
        if self.child is not None:
            self.child.stop(how)
            self.child = None

    def _run(self, module: str) -> Child:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        arguments = [sys.executable, "-m", module]
        address = {"HOST": LOOPBACK, "PORT": str(self.port)}
        return Child(module, arguments, self.log, environment={**self.environment, **address})


def mem0_server(
    port: int,
    log: Path,
    *,
    dsn: str,
    keys: Path,
    ollama_url: str,
    models: tuple[str, str],
    scratch: Path,
    **more: str,
) -> Server:
    """The memory server.

    Args:
        dsn: its database.
        keys: the folder of its API keys, as a Secret is mounted.
        models: the names of the chat and the embedding model.
        scratch: a folder that mem0ai may write to.
        more: further settings.
    """
    chat, embedding = models
    settings = {
        "DATABASE_URL": dsn,
        "MEM0_API_KEY_DIR": str(keys),
        "OLLAMA_BASE_URL": ollama_url,
        "LLM_MODEL": chat,
        "EMBEDDING_MODEL": embedding,
        "MEM0_TELEMETRY": "false",
        "MEM0_DIR": str(scratch),
        "DRAIN_DELAY": "0",
    }
    return Server("mem0_server", port, "/ready", settings | more, log)


def rag_app(
    port: int,
    log: Path,
    *,
    dsn: str,
    ollama_url: str,
    models: tuple[str, str],
    **more: str,
) -> Server:
    """The app; ``models`` are the names of the chat and the embedding model."""
    chat, embedding = models
    settings = {
        "METIS_POSTGRES_DSN": dsn,
        "METIS_OLLAMA_BASE_URL": ollama_url,
        "DEFAULT_MODEL": chat,
        "DEFAULT_EMBEDDING_MODEL": embedding,
        "DRAIN_DELAY": "0",
    }
    return Server("app", port, "/api/ready", settings | more, log)


def free_port(wanted: int = 0) -> int:
    """``wanted`` when nobody listens there on 127.0.0.1, else any port that is free."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            # As servers do: a connection that is still closing does not occupy its port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("the system gives no port")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False
