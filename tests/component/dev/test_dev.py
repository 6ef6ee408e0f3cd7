"""``make dev``: the whole system on one machine, and nothing of it afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.dev import models
from app.dev.postgres import Postgres
from app.dev.servers import Server, free_port
from app.errors import LocalRunError

ROOT = Path(__file__).parents[3]
SECONDS = 120.0
"""For a busy machine; a quiet one needs a tenth of it."""


class Run:
    """A local run, what it says, and the processes that hang on it."""

    def __init__(self, arguments: list[str], output: Path) -> None:
        self.output = output
        with output.open("wb") as sink:
            self.popen = subprocess.Popen(
                arguments,
                cwd=ROOT,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                # As from a terminal, also where the tests run under nohup: a run outlives it.
                preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),
            )

    def says(self, words: str) -> str:
        """Wait for ``words``; all that it said."""
        wait_for(lambda: words in self.text or self.popen.poll() is not None, words)
        assert words in self.text, self.text
        return self.text

    @property
    def text(self) -> str:
        return self.output.read_text()

    def after(self, label: str) -> str:
        """What the summary says behind ``label``."""
        (line,) = [line for line in self.text.splitlines() if line.startswith(f"  {label} ")]
        return line.split()[1].rstrip(",")

    def end(self, how: signal.Signals) -> int:
        self.popen.send_signal(how)
        return self.popen.wait(SECONDS)


def wait_for(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.05)


def descendants(ancestor: int) -> list[int]:
    """Ids of all processes below one; a server stays among them while its ancestor lives."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = [ancestor]
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found


def alive(pids: list[int]) -> list[int]:
    """Those that still run; one that has ended but was not yet collected by process 1 does not."""
    running = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                running.append(pid)
    return running


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    """``launch(*arguments, by=command)`` starts a run; it is killed when the test fails."""
    runs: list[Run] = []

    def begin(*arguments: str, by: tuple[str, ...] = (sys.executable, "-m", "app.dev")) -> Run:
        run = Run([*by, *arguments], tmp_path / f"run-{len(runs)}.out")
        runs.append(run)
        return run

    yield begin
    for run in runs:
        if run.popen.poll() is None:
            for pid in descendants(run.popen.pid):
                os.kill(pid, signal.SIGKILL)
            run.popen.wait()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder outside pytest's, which other users of the machine may enter: PostgreSQL as root."""
    with tempfile.TemporaryDirectory(prefix="metis-test-") as made:
        yield Path(made)


@pytest.fixture
def options(scripted_ollama: Any) -> list[str]:
    return [
        f"--ollama-url={scripted_ollama.url}", "--chat-model=chat-model",
        "--embedding-model=embed-model",
    ]  # fmt: skip


def test_it_runs_keeps_its_data_and_leaves_nothing_behind(
    launch: Callable[..., Run], options: list[str], folder: Path
) -> None:
    data = folder / "data"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        options += [f"--data={data}", f"--port={taken.getsockname()[1]}", "--mem0-port=0"]
        first = launch(f"ARGS={' '.join(options)}", by=("make", "-s", "dev"))
        assert "is taken" in first.says("Ctrl-C ends it")
        page, key = first.after("page"), (data / "keys" / "admin-key").read_text()
        assert httpx.get(f"{page}/api/documents").status_code == 401
        user = {"Authorization": f"Bearer {key}"}
        body = {"message": "What is there to know?"}
        answer = httpx.post(f"{page}/api/chat/query", json=body, headers=user, timeout=60)
        assert answer.is_success, answer.text
        health = httpx.get(f"{page}/api/health").json()
        parts = health["components"]
        assert {"database", "models", "mem0"} <= set(parts)
        assert {part["status"] for part in parts.values()} == {"ok"}, health

        second = launch(*options)
        assert second.popen.wait(SECONDS) == 1
        assert f"another run uses {data}" in second.text

        pids = descendants(first.popen.pid)
        assert len(pids) > 4, "make, the run, PostgreSQL, Mem0 server, app"
        first.end(signal.SIGKILL)
        wait_for(lambda: not alive(pids), "the end of all children of a killed run")

        again = launch(*options)
        again.says("Ctrl-C ends it")
    pids = descendants(again.popen.pid)
    mem0 = {"X-API-Key": (data / "keys" / "mem0" / "current").read_text()}
    said = httpx.get(
        f"{again.after('Mem0')}/agents/metis_rag_agent/humans/admin/recall", headers=mem0
    )
    assert body["message"] in said.text, "what was said before the kill is still known"
    assert again.end(signal.SIGINT) == 0
    assert alive(pids) == []
    assert "the data stays" in again.text


def test_a_run_ends_with_its_starter_even_while_it_starts(
    launch: Callable[..., Run], options: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(folder))
    # The ":" keeps the shell from becoming the run itself.
    script = f"{sys.executable} -m app.dev --throw-away {' '.join(options)}; :"
    run = launch(by=("sh", "-c", script))
    run.says("PostgreSQL")
    wait_for(lambda: list(folder.glob("metis-dev-*/postgres/postmaster.pid")), "PostgreSQL")
    pids = descendants(run.popen.pid)
    run.end(signal.SIGKILL)
    wait_for(lambda: not alive(pids), "the end of everything")
    wait_for(lambda: not list(folder.glob("metis-dev-*")), "the end of its folder")
    assert "Traceback" not in run.text


def test_what_is_missing_is_said_with_the_cure(
    scripted_ollama: Any, launch: Callable[..., Run], tmp_path: Path
) -> None:
    run = launch(f"--ollama-url=http://127.0.0.1:{free_port()}", f"--data={tmp_path}")
    with pytest.raises(LocalRunError, match=r"does not have gemma; it has chat-model.*pull gemma"):
        models.there(scripted_ollama.url, "gemma", "embed-model")
    with pytest.raises(LocalRunError, match="--embedding-model"):
        models.there(scripted_ollama.url, "chat-model", "nomic")
    assert run.popen.wait(SECONDS) == 1
    assert "no Ollama answers at" in run.text
    assert "--small-models" in run.text
    assert "Traceback" not in run.text


def test_a_folder_of_another_postgres_is_refused(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("16\n")
    with pytest.raises(LocalRunError, match="name another with --data"):
        Postgres(tmp_path, tmp_path / "log").start()


def test_an_interrupted_start_leaves_no_half_of_a_database(folder: Path) -> None:
    unfinished = folder / "data.unfinished"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    server = Postgres(folder / "data", folder / "log", durable=False)
    server.start()
    assert server.database("test")
    server.stop()
    assert not unfinished.exists()


def test_a_server_that_cannot_start_shows_its_last_words(tmp_path: Path) -> None:
    server = Server("mem0_server", free_port(), "/ready", {"DATABASE_URL": "x"}, tmp_path / "log")
    with pytest.raises(LocalRunError, match=r"(?s)mem0_server ended with status 2.*DATABASE_URL"):
        server.start()


def test_a_program_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    from app.dev.children import Child

    log = tmp_path / "log"
    child = Child("stubborn", ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"], log)
    child.wait_until(log.read_text, 20, "its first word")
    child.stop(limit=0.2)
    assert child.status == -signal.SIGKILL


@pytest.mark.full
def test_small_models_answer(launch: Callable[..., Run]) -> None:
    """With an Ollama of its own, which a container holds: killed, it takes the container along."""
    run = launch("--throw-away", "--small-models", "--port=0", "--mem0-port=0")
    run.says("Ctrl-C ends it")
    folder = Path(run.after("logs")).parent
    user = {"Authorization": f"Bearer {(folder / 'keys' / 'admin-key').read_text()}"}
    url, ollama = run.after("page"), run.after("Ollama")
    answer = httpx.post(f"{url}/api/chat/query", json={"message": "Hi"}, headers=user, timeout=120)
    assert answer.json()["answer"], answer.text
    run.end(signal.SIGKILL)
    wait_for(lambda: models.installed(ollama) is None, "the end of the container")
