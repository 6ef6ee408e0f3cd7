"""``python -m app`` and ``python -m app.prepare`` as the containers run them."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from app.db.migrate import newest_revision

ROOT = Path(__file__).parents[3]


class Process:
    """A running command, its stderr read line by line."""

    def __init__(self, module: str, environment: dict[str, str], cwd: Path) -> None:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("METIS_", "MEM0_"))}
        self.popen = subprocess.Popen(
            [sys.executable, "-m", module],
            env={**clean, "PYTHONPATH": str(ROOT), **environment},
            cwd=cwd,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.popen.stderr is not None
        for line in self.popen.stderr:
            self._queue.put(line)
        self._queue.put(None)

    def wait_for(self, words: str, timeout: float = 30) -> str:
        """The next line of stderr that contains ``words``."""
        deadline = time.monotonic() + timeout
        while True:
            line = self._queue.get(timeout=max(0.1, deadline - time.monotonic()))
            assert line is not None, f"ended without {words!r}: {self.lines}"
            self.lines.append(line)
            if words in line:
                return line

    def end(self, timeout: float = 30) -> int:
        """Wait for the end; the exit status."""
        status = self.popen.wait(timeout)
        while (line := self._queue.get(timeout=5)) is not None:
            self.lines.append(line)
        return status


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """``run(module, **environment)`` starts ``python -m module``."""
    started = []

    def start(module: str, **environment: str) -> Process:
        process = Process(module, environment, tmp_path)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
            process.popen.wait()


@pytest.fixture
def environment(scripted_ollama: Any) -> dict[str, str]:
    return {
        "METIS_OLLAMA_BASE_URL": scripted_ollama.url,
        "DEFAULT_MODEL": "chat-model",
        "DEFAULT_EMBEDDING_MODEL": "embed-model",
        "AUTH_MODE": "none",
        "USE_MEM0": "false",
        "HOST": "127.0.0.1",
    }


def test_serves_logs_json_and_drains(
    run: Callable[..., Process],
    environment: dict[str, str],
    make_dsn: Callable[[], str],
    holding_ollama: Any,
    free_port: Callable[[], int],
) -> None:
    port = free_port()
    process = run(
        "app",
        **environment
        | {
            "METIS_POSTGRES_DSN": make_dsn(),
            "METIS_OLLAMA_BASE_URL": holding_ollama.url,
            "PORT": str(port),
            "DRAIN_DELAY": "0.5",
        },
    )
    off = json.loads(process.wait_for("not_built_yet"))
    assert "USE_RETRIEVAL_JUDGE" in off["off"]
    process.wait_for("Uvicorn running")
    url = f"http://127.0.0.1:{port}"
    body = {"message": "a secret question"}
    with httpx.stream("POST", f"{url}/api/chat/stream", json=body, timeout=30) as response:
        lines = response.iter_lines()
        assert any('"three "' in line for line in lines)
        with httpx.Client() as pooled:
            assert "connection" not in pooled.get(f"{url}/api/health").headers
            process.popen.send_signal(signal.SIGTERM)
            last = pooled.get(f"{url}/api/health")
        assert last.status_code == 200, "still accepts for a while"
        assert last.headers["connection"] == "close", "and sends clients elsewhere"
        process.wait_for("Shutting down")
        holding_ollama.go_on.set()
        assert any("One two three four" in line for line in lines), "an answer is not cut off"
    assert process.end() == 0
    records = [json.loads(line) for line in process.lines]
    (request,) = [r for r in records if r.get("route") == "/api/chat/stream"]
    assert (request["event"], request["status"]) == ("request", 200)
    assert request["request_id"]
    assert not any("secret question" in line for line in process.lines)


def test_it_serves_on_while_somebody_comes_but_not_for_ever(
    run: Callable[..., Process],
    environment: dict[str, str],
    make_dsn: Callable[[], str],
    free_port: Callable[[], int],
) -> None:
    port, delay = free_port(), 0.5
    settings = {"METIS_POSTGRES_DSN": make_dsn(), "PORT": str(port), "DRAIN_DELAY": str(delay)}
    process = run("app", **environment | settings)
    process.wait_for("Uvicorn running")
    process.popen.send_signal(signal.SIGTERM)
    begun, served = time.monotonic(), 0.0
    with suppress(httpx.TransportError):
        while served < 30:
            answer = httpx.get(f"http://127.0.0.1:{port}/api/chat/conversations", timeout=20)
            assert answer.status_code == 200, answer.text
            served = time.monotonic() - begun
    assert 2 * delay < served < 30
    assert process.end() == 0


def test_what_is_not_done_when_it_must_end_is_told_so(
    run: Callable[..., Process],
    environment: dict[str, str],
    make_dsn: Callable[[], str],
    holding_ollama: Any,
    free_port: Callable[[], int],
) -> None:
    port = free_port()
    settings = {
        "METIS_POSTGRES_DSN": make_dsn(), "METIS_OLLAMA_BASE_URL": holding_ollama.url,
        "PORT": str(port), "DRAIN_DELAY": "0", "DRAIN_TIMEOUT": "1",
    }  # fmt: skip
    process = run("app", **environment | settings)
    process.wait_for("Uvicorn running")
    url = f"http://127.0.0.1:{port}/api/chat/query"
    with ThreadPoolExecutor(1) as aside:
        answer = aside.submit(httpx.post, url, json={"message": "Who?"}, timeout=30)
        assert holding_ollama.asked.wait(20)
        process.popen.send_signal(signal.SIGTERM)
        response = answer.result()
    holding_ollama.go_on.set()
    assert response.status_code == 503
    assert "send it again" in response.json()["error"]["message"]
    assert response.headers["Retry-After"]
    assert process.end() == 0


def test_wrong_settings_end_it_with_a_clear_message(
    run: Callable[..., Process], environment: dict[str, str], tmp_path: Path
) -> None:
    cases = [
        ({"PORT": "many"}, "PORT"),
        ({"DATABASE_PASSWORD": "postgres"}, "DATABASE_PASSWORD is a placeholder"),
        ({"AUTH_MODE": "keys", "AUTH_KEYS_FILE": str(tmp_path / "none")}, "cannot be read"),
    ]
    processes = [(run("app", **environment | wrong), words) for wrong, words in cases]
    for process, words in processes:
        assert process.end() == 2, process.lines
        text = "".join(process.lines)
        assert text.startswith("metis: ")
        assert words in text
        assert "Traceback" not in text


def test_prepare_waits_migrates_and_may_run_twice_at_once(
    run: Callable[..., Process],
    environment: dict[str, str],
    scripted_ollama: Any,
    postgres_dsn_factory: Callable[[str], str],
) -> None:
    dsn = postgres_dsn_factory("fresh")
    scripted_ollama.down = True  # the app starts without it, and says so
    settings = environment | {"METIS_POSTGRES_DSN": dsn}
    processes = [run("app.prepare", **settings) for _ in range(2)]
    for process in processes:
        process.wait_for(f"metis-postgres: schema {newest_revision()}")
    assert [process.end() for process in processes] == [0, 0]
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [
            (newest_revision(),)
        ]


def test_prepare_says_what_it_waits_for(
    run: Callable[..., Process],
    environment: dict[str, str],
    free_port: Callable[[], int],
    make_dsn: Callable[[], str],
) -> None:
    nowhere = f"postgresql://127.0.0.1:{free_port()}/metis"
    process = run("app.prepare", **environment | {"METIS_POSTGRES_DSN": nowhere})
    assert "refused" in process.wait_for("waiting for metis-postgres")
    process.popen.terminate()
    assert process.popen.wait(10) == -signal.SIGTERM

    dsn = make_dsn()
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    newer = run("app.prepare", **environment | {"METIS_POSTGRES_DSN": dsn})
    assert newer.end() == 1
    assert "a schema this version does not know" in "".join(newer.lines)
