"""Real servers on loopback for the component tests.

They are started by :mod:`app.dev`, as on a developer's machine. PostgreSQL is a real one. Ollama
is scripted here because no component test is about what a model says: the wire format is Ollama's,
the words are ours. The end-to-end tests talk to a real Ollama.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.dev import servers
from app.dev.postgres import Postgres

DIMENSION = 64


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A throw-away PostgreSQL.

    Not in pytest's folder: for root it runs as another user, whom every other pytest that starts
    on this machine would lock out of there.
    """
    with tempfile.TemporaryDirectory(prefix="metis-test-") as folder:
        server = Postgres(Path(folder) / "data", Path(folder) / "log", durable=False)
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="session")
def postgres_server(postgres: Postgres) -> str:
    """The superuser DSN of the throw-away PostgreSQL."""
    return postgres.dsn()


@pytest.fixture(scope="session")
def postgres_dsn_factory(postgres: Postgres) -> Callable[[str], str]:
    """``factory(name)`` makes a fresh database and returns its ``postgresql://`` DSN."""

    def make(name: str = "test") -> str:
        return postgres.database(f"{name}_{uuid4().hex[:8]}")

    return make


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """``free_port()`` returns a TCP port on 127.0.0.1 that nobody listened on just now."""
    return servers.free_port


def embed(text: str, dimension: int = DIMENSION) -> list[float]:
    """Hash the words of ``text`` into a unit vector: equal words, near vectors."""
    vector = [0.0] * dimension
    for word in re.findall(r"[a-z0-9]+", text.lower()):
        digest = hashlib.sha256(word.encode()).digest()
        vector[digest[0] % dimension] += 1.0
        vector[digest[1] % dimension] += 0.5
    norm = math.sqrt(sum(x * x for x in vector)) or 1.0
    return [x / norm for x in vector]


@dataclass
class ScriptedOllama:
    """An HTTP server that speaks Ollama's API, and OpenAI's under /v1, with scripted answers.

    ``answer`` is what the chat model says (split into words when streamed); ``requests`` holds
    the bodies of all chat requests; ``down`` makes every call answer 503; ``key`` is the bearer
    key asked for under /v1, if any; ``breaks_off`` ends its answers without their last line;
    with ``tls`` it serves HTTPS. ``dimensions`` and ``seconds`` are, by model, the length of its
    vectors (64 by default) and how long it takes to embed a text; ``embedded_by`` holds the model
    of each text in ``embedded``.
    """

    answer: str = "The answer is in the document [1]."
    models: list[str] = field(default_factory=lambda: ["chat-model", "embed-model"])
    requests: list[dict[str, Any]] = field(default_factory=list)
    embedded: list[str] = field(default_factory=list)
    embedded_by: list[str] = field(default_factory=list)
    dimensions: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    down: bool = False
    key: str = ""
    breaks_off: bool = False
    tls: ssl.SSLContext | None = None
    url: str = ""

    def start(self) -> ThreadingHTTPServer:
        """Listen on a free port of 127.0.0.1 and set ``url``."""
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                return

            def reply(self, payload: Any, status: int = 200) -> None:
                body = json.dumps(payload).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                if script.down:
                    return self.reply({"error": "down"}, 503)
                if self.path == "/api/version":
                    return self.reply({"version": "0.0.0-scripted"})
                if self.path == "/api/tags":
                    names = [m if ":" in m else f"{m}:latest" for m in script.models]
                    return self.reply({"models": [{"name": n, "model": n} for n in names]})
                if self.path == "/v1/models" and self.may_speak():
                    return self.reply(
                        {"object": "list", "data": [{"id": m} for m in script.models]}
                    )
                return self.reply({"error": "not found"}, 404)

            def may_speak(self) -> bool:
                wanted = f"Bearer {script.key}" if script.key else None
                fine = wanted in (None, self.headers.get("Authorization"))
                if not fine:
                    self.reply({"error": {"message": "wrong API key"}}, 401)
                return fine

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
                if script.down:
                    return self.reply({"error": "down"}, 503)
                if self.path.startswith("/v1/") and not self.may_speak():
                    return None
                known = {m.split(":")[0] for m in script.models}
                if body.get("model", "").split(":")[0] not in known:
                    return self.reply({"error": f"model {body.get('model')!r} not found"}, 404)
                if self.path == "/api/embed":
                    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
                    return self.reply(
                        {"model": body["model"], "embeddings": self.embed(body["model"], texts)}
                    )
                if self.path == "/api/embeddings":
                    return self.reply({"embedding": embed(body["prompt"])})
                if self.path == "/api/chat":
                    return self.chat(body)
                if self.path == "/v1/embeddings":
                    vectors = self.embed(body["model"], body["input"])
                    data = [{"index": i, "embedding": v} for i, v in enumerate(vectors)]
                    return self.reply({"data": data[::-1]})  # the index tells the order
                if self.path == "/v1/chat/completions":
                    return self.complete(body)
                return self.reply({"error": "not found"}, 404)

            def embed(self, name: str, texts: list[str]) -> list[list[float]]:
                model = name.split(":")[0]
                script.embedded.extend(texts)
                script.embedded_by.extend([model] * len(texts))
                time.sleep(script.seconds.get(model, 0.0) * len(texts))
                size = script.dimensions.get(model, DIMENSION)
                return [embed(text, size) for text in texts]

            def complete(self, body: dict[str, Any]) -> None:
                script.requests.append(body)
                if not body.get("stream"):
                    message = {"role": "assistant", "content": script.answer}
                    return self.reply({"choices": [{"index": 0, "message": message}]})
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(b": a comment, as servers send to keep a connection alive\n\n")
                for word in re.findall(r"\S+\s*", script.answer):
                    part = {"choices": [{"delta": {"content": word}, "finish_reason": None}]}
                    self.wfile.write(b"data: " + json.dumps(part).encode() + b"\n\n")
                if not script.breaks_off:
                    self.wfile.write(b"data: [DONE]\n\n")
                self.close_connection = True
                return None

            def chat(self, body: dict[str, Any]) -> None:
                script.requests.append(body)
                done = {"model": body["model"], "done": True, "done_reason": "stop"}
                if body.get("stream") is False:
                    message = {"role": "assistant", "content": script.answer}
                    return self.reply({**done, "message": message})
                self.send_response(200)
                self.send_header("Content-Type", "application/x-ndjson")
                self.send_header("Connection", "close")
                self.end_headers()
                for word in re.findall(r"\S+\s*", script.answer):
                    line = {
                        "model": body["model"],
                        "message": {"role": "assistant", "content": word},
                        "done": False,
                    }
                    self.wfile.write(json.dumps(line).encode() + b"\n")
                final = {**done, "message": {"role": "assistant", "content": ""}}
                self.wfile.write(json.dumps(final).encode() + b"\n")
                self.close_connection = True
                return None

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if self.tls is not None:
            server.socket = self.tls.wrap_socket(server.socket, server_side=True)
        scheme = "http" if self.tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server


@pytest.fixture
def another_ollama() -> Iterator[Callable[..., ScriptedOllama]]:
    """``another_ollama(**fields)`` is a further scripted server."""
    servers = []

    def start(**fields: Any) -> ScriptedOllama:
        script = ScriptedOllama(**fields)
        servers.append(script.start())
        return script

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def scripted_ollama() -> Iterator[ScriptedOllama]:
    """A running scripted Ollama with the models ``chat-model`` and ``embed-model`` (64 dims)."""
    script = ScriptedOllama()
    server = script.start()
    yield script
    server.shutdown()
    server.server_close()
