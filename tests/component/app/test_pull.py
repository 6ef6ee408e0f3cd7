"""``python -m app.pull`` as its Job runs it, against servers that pull as Ollama does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

LAYER = 1000


@dataclass
class PullingOllama:
    """Ollama's side of a pull: lines after a 200, whatever comes; what was fetched is kept.

    ``fails`` is a registry's reason; ``speed`` is bytes a second; ``dies_at`` closes the connection
    once when so many bytes are there.
    """

    models: dict[str, int] = field(default_factory=dict)
    loaded: list[str] = field(default_factory=list)
    fetched: int = 0
    fails: str = ""
    speed: float = 4000.0
    dies_at: int = 0
    pulls: list[tuple[str, bool, int]] = field(default_factory=list)
    """Name, ``insecure``, and what was there when it began."""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    port: int = 0

    def start(self) -> ThreadingHTTPServer:
        ollama = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                return

            def body(self) -> Any:
                return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

            def reply(self, payload: Any) -> None:
                content = json.dumps(payload).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                names = ollama.loaded if self.path == "/api/ps" else ollama.models
                entries = [{"name": n, "digest": n, "size": LAYER} for n in names]
                self.reply({"models": entries})

            def do_DELETE(self) -> None:
                name = self.body()["model"]
                ollama.calls.append(("delete", name))
                ollama.models.pop(name)
                self.reply({})

            def do_POST(self) -> None:
                body = self.body()
                if self.path == "/api/copy":
                    ollama.calls.append(("copy", body))
                    ollama.models[body["destination"]] = LAYER
                    return self.reply({})
                ollama.pulls.append((body["model"], body["insecure"], ollama.fetched))
                self.send_response(200)
                self.send_header("Connection", "close")
                self.end_headers()
                self.close_connection = True
                return ollama.stream(body["model"], self.say)

            def say(self, **line: Any) -> None:
                self.wfile.write(json.dumps(line).encode() + b"\n")

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        self.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def stream(self, name: str, say: Callable[..., None]) -> None:
        say(status="pulling manifest")
        if self.fails:
            return say(error=self.fails)
        while self.fetched < LAYER:
            done = {"completed": self.fetched} if self.fetched else {}
            say(status="pulling abc", digest="sha256:abc", total=LAYER, **done)
            time.sleep(0.05)
            self.fetched += int(self.speed * 0.05)
            if self.dies_at and self.fetched >= self.dies_at:
                self.dies_at = 0
                return None
        say(status="verifying sha256 digest")
        say(status="writing manifest")
        self.models[name if ":" in name.rsplit("/", 1)[-1] else f"{name}:latest"] = LAYER
        return say(status="success")


@pytest.fixture
def ollama() -> Iterator[PullingOllama]:
    found = PullingOllama()
    server = found.start()
    yield found
    server.shutdown()
    server.server_close()


@dataclass
class Pull:
    """The running program, and what it tells."""

    process: subprocess.Popen[str]
    port: int

    def told(self) -> dict[str, Any]:
        answer = httpx.get(f"http://127.0.0.1:{self.port}/", trust_env=False)
        body: dict[str, Any] = answer.json()
        return body

    def until(self, check: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        deadline = time.monotonic() + 20
        told: Any = "nothing"
        while time.monotonic() < deadline:
            try:
                told = self.told()
            except httpx.HTTPError:
                told = "nothing"
            else:
                if check(told):
                    return dict(told)
            time.sleep(0.02)
        raise AssertionError(f"last told: {told}")

    def end(self) -> str:
        """Its log, when it has ended well."""
        output, _ = self.process.communicate(timeout=20)
        assert self.process.returncode == 0, output
        return output


Start = Callable[..., Pull]


@pytest.fixture
def start(ollama: PullingOllama, free_port: Callable[[], int]) -> Iterator[Start]:
    """``start(*arguments)`` runs it for the model ``small``."""
    begun: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> Pull:
        port = free_port()
        base = ["--servers", f"127.0.0.1:{ollama.port}", "--port", str(port)]
        process = subprocess.Popen(
            [sys.executable, "-m", "app.pull", *base, *(arguments or ("small",))],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        begun.append(process)
        return Pull(process, port)

    yield run
    for process in begun:
        process.kill()
        process.communicate()


def test_a_model_arrives_and_its_progress_rises(ollama: PullingOllama, start: Start) -> None:
    ollama.speed = 400.0
    pull = start()
    seen = [pull.until(lambda t, at=at: t["percent"] >= at)["percent"] for at in (10, 40, 80)]
    assert seen == sorted(seen)
    told = pull.until(lambda t: t["bytesPerSecond"])
    assert (told["model"], told["state"], told["total"]) == ("small", "Pulling", LAYER)
    assert told["etaSeconds"] <= 3
    log = pull.end()
    assert "pull: small: pulling, " in log
    assert log.splitlines()[-1] == "pull: small: ready"
    assert ollama.pulls == [("small", False, 0)]


def test_what_is_there_is_not_pulled(ollama: PullingOllama, start: Start) -> None:
    ollama.models["small:latest"] = LAYER
    start().end()
    assert ollama.pulls == []


def test_a_broken_connection_is_taken_up_again(ollama: PullingOllama, start: Start) -> None:
    ollama.dies_at = 600
    log = start().end()
    assert [there for _, _, there in ollama.pulls] == [0, 600]
    assert "without a reason" in log


def test_a_killed_job_is_taken_up_by_the_next(ollama: PullingOllama, start: Start) -> None:
    ollama.speed = 400.0
    first = start()
    first.until(lambda t: t["percent"] >= 30)
    first.process.send_signal(signal.SIGTERM)
    assert first.process.wait(10) == 143
    fetched = ollama.fetched
    assert start().until(lambda t: t["percent"])["percent"] >= 30
    assert ollama.pulls[1][2] >= fetched >= 300


def test_the_registrys_reason_is_told_until_it_is_gone(ollama: PullingOllama, start: Start) -> None:
    ollama.fails = "pull model manifest: file does not exist"
    pull = start()
    told = pull.until(lambda t: t["state"] == "Failed")
    assert told["message"].startswith("pull model manifest: file does not exist; ")
    pull.until(lambda _: len(ollama.pulls) >= 2)  # it goes on trying
    ollama.fails = ""
    pull.end()


def test_a_server_that_is_away_is_waited_for(ollama: PullingOllama, start: Start) -> None:
    port, ollama.port = ollama.port, 1
    pull = start()
    told = pull.until(lambda t: "does not answer" in t["message"])
    assert (told["state"], told["percent"]) == ("Waiting", 0)
    ollama.port = port
    pull.process.terminate()


def test_a_model_larger_than_the_volume_is_refused_at_once(
    ollama: PullingOllama, start: Start
) -> None:
    ollama.speed = 20.0
    pull = start("small", "--volume", "999")
    told = pull.until(lambda t: t["state"] == "Failed")
    assert "ollama.storage.size" in told["message"]
    assert ollama.fetched < 100


def test_a_mirror_gives_the_model_under_its_own_name(ollama: PullingOllama, start: Start) -> None:
    start("small", "--registry", "mirror:5000", "--insecure").end()
    assert ollama.pulls == [("mirror:5000/library/small:latest", True, 0)]
    assert list(ollama.models) == ["small"]
    assert [call for call, _ in ollama.calls] == ["copy", "delete"]


def test_pruning_waits_for_what_is_wanted_and_for_what_is_used(
    ollama: PullingOllama, start: Start
) -> None:
    ollama.models |= {"old:1b": LAYER, "older:1b": LAYER}
    ollama.loaded = ["old:1b"]
    pull = start("--prune", "--grace", "0", "small")
    assert pull.process.stdout is not None
    assert "waits until" in pull.process.stdout.readline()
    assert set(ollama.models) == {"old:1b", "older:1b"}
    ollama.models["small:latest"] = LAYER
    said = iter(pull.process.stdout.readline, "")
    assert any("still in use" in line for line in said)
    assert set(ollama.models) == {"old:1b", "small:latest"}
    ollama.loaded = []
    pull.end()
    assert set(ollama.models) == {"small:latest"}
