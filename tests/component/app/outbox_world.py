"""A Mem0 server and replicas of the app that tests of the outbox kill and start again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg

from app.core.config import load_settings
from app.dev.servers import Server, free_port, mem0_server, rag_app
from app.rag.mem0_client import METIS_AGENT_ID
from app.rag.mem0_http import Mem0Client
from app.rag.notes import message_note
from app.rag.outbox_sync import SyncOutbox

USER = "local"
MODELS = ("chat-model", "embed-model")
SOON = 60.0


class World:
    """A Mem0 server and replicas of the app over one database, each a process to be killed."""

    def __init__(self, folder: Path, dsn: str, mem0_dsn: str, ollama_url: str, key: str) -> None:
        self.folder, self.dsn, self.ollama_url, self.key = folder, dsn, ollama_url, key
        self.keys = folder / "keys"
        self.keys.mkdir()
        (self.keys / "current").write_text(key)
        self.mem0 = mem0_server(
            free_port(),
            folder / "mem0.log",
            dsn=mem0_dsn,
            keys=self.keys,
            ollama_url=ollama_url,
            models=MODELS,
            scratch=folder / "scratch",
        )
        self.outbox = SyncOutbox(load_settings(database_url=dsn))
        self.plain = Mem0Client(key, self.mem0.url)
        self.replicas: list[Server] = []

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AUTH_MODE": "none",
            "MEM0_ENDPOINT": self.mem0.url,
            "MEM0_API_KEY_DIR": str(self.keys),
        }

    def app(self) -> Server:
        replica = rag_app(
            free_port(),
            self.folder / f"app-{len(self.replicas)}.log",
            dsn=self.dsn,
            ollama_url=self.ollama_url,
            models=MODELS,
            **self.environment,
        )
        replica.start()
        self.replicas.append(replica)
        return replica

    def close(self) -> None:
        for server in (*self.replicas, self.mem0):
            server.stop(signal.SIGKILL)

    def remembered(self, human: str = USER) -> list[str]:
        """All that Mem0 holds of the conversation, oldest first; nothing while it is away."""
        path = f"/agents/{METIS_AGENT_ID}/humans/{human}/recall"
        found: list[dict[str, Any]] = []
        with suppress(httpx.HTTPError), httpx.Client(base_url=self.mem0.url, timeout=30) as http:
            http.headers["X-API-Key"] = self.key
            page = [{"id": 2**63 - 1}]
            while page:
                asked = {"limit": 1000, "before": page[0]["id"]}
                page = http.get(path, params=asked).raise_for_status().json()["messages"]
                found = page + found
        return [message["content"] for message in found]

    def waiting(self) -> int:
        return self.count("delivered_at IS NULL AND parked_at IS NULL")

    def count(self, which: str) -> int:
        with psycopg.connect(self.dsn) as connection:
            row = connection.execute(f"SELECT count(*) FROM outbox WHERE {which}").fetchone()
            assert row is not None
            return int(row[0])

    def queue(self, human: str, *contents: str) -> None:
        for content in contents:
            assert self.outbox.write(human, [message_note("user", content)])


def until(condition: Callable[[], Any], what: str, seconds: float = SOON) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


def say(app: Any, message: str, conversation: str | None = None) -> dict[str, Any]:
    body = {"message": message} | ({"conversation_id": conversation} if conversation else {})
    response = httpx.post(f"{app.url}/api/chat/query", json=body, timeout=60)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def get(app: Any, path: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{app.url}/api{path}", timeout=60).json()
    return found


def questions(memory: dict[str, Any]) -> list[str]:
    return [m["content"] for m in memory["history"] if m["role"] == "user"]
