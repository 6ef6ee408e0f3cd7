"""A change of the embedding model: refused, or carried out beside the index that answers.

The two models are scripted and make vectors of different lengths, so a question that met vectors
of the other one would fail.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from app.core.config import Settings
from app.prepare import REFUSED
from app.rag import health

ROOT = Path(__file__).parents[3]
TOPICS = 48
BATCH = 4
PATIENCE = 150
"""Seconds; a replica starts in four, and in a minute where the machine is overloaded."""
Serve = Callable[[Settings], AbstractContextManager[Any]]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, scripted_ollama: Any) -> None:
    monkeypatch.setattr(health, "FRESH", 0.0)
    scripted_ollama.models.append("other-embed")
    # So many that no two words of the tests come to lie on one another.
    scripted_ollama.dimensions |= {"embed-model": 512, "other-embed": 768}


def handbook(start: int = 0, count: int = TOPICS) -> bytes:
    sections = (f"## Topic {n}\n\nThe keyword{n} hangs in room {n}." for n in range(start, count))
    return "\n\n".join(sections).encode()


def upload(client: httpx.Client, name: str, content: bytes) -> dict[str, Any]:
    response = client.post("/api/documents", files=[("files", (name, content))])
    assert response.status_code == 201, response.text
    (document,) = response.json()["documents"]
    assert document["status"] == "ready", document
    return document  # type: ignore[no-any-return]


def sections(client: httpx.Client, topic: int) -> set[str]:
    """The sections that a question about a topic is answered from."""
    question = {"message": f"Where does the keyword{topic} keyword{topic} keyword{topic} hang?"}
    response = client.post("/api/chat/query", json=question)
    assert response.status_code == 200, response.text
    return {source["section"] for source in response.json()["sources"]}


def status(client: httpx.Client) -> dict[str, Any]:
    response = client.get("/api/status/embedding")
    assert response.status_code == 200, response.text
    return response.json()  # type: ignore[no-any-return]


def eventually(client: httpx.Client, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The status of the index once something holds of it."""
    deadline = time.monotonic() + PATIENCE
    while not holds(found := status(client)):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def replica(settings: Settings, port: int, log: Path, module: str = "app") -> subprocess.Popen[Any]:
    """Another replica as a process, whose settings want the other model."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("METIS_", "MEM0_"))}
    environment = {
        "PYTHONPATH": str(ROOT),
        "METIS_POSTGRES_DSN": settings.database_url,
        "METIS_OLLAMA_BASE_URL": settings.ollama_base_url,
        "DEFAULT_MODEL": "chat-model",
        "DEFAULT_EMBEDDING_MODEL": "other-embed",
        "EMBEDDING_BATCH_SIZE": str(BATCH),
        "AUTH_MODE": "none",
        "USE_MEM0": "false",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "REINDEX": "true" if module == "app" else "false",
        "DRAIN_DELAY": "0",
    }
    with log.open("ab") as sink:
        return subprocess.Popen(
            [sys.executable, "-m", module], env=clean | environment, stderr=sink, stdout=sink
        )


class Questioner:
    """Asks one replica without a pause; keeps what went wrong."""

    def __init__(self, running: Any) -> None:
        self.asked = 0
        self.wrong: list[str] = []
        self._over = threading.Event()
        self._running = running
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        with self._running.client() as client:
            while not self._over.is_set():
                topic = self.asked % TOPICS
                try:
                    found = sections(client, topic)
                    if f"Topic {topic}" not in found:
                        self.wrong.append(f"topic {topic}: {found}")
                except (AssertionError, httpx.HTTPError) as error:
                    self.wrong.append(repr(error))
                self.asked += 1

    def close(self) -> None:
        self._over.set()
        self._thread.join(30)


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[Any]]]:
    started: list[subprocess.Popen[Any]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def test_another_model_is_refused_until_asked_for(
    serve: Serve, app_settings: Callable[..., Settings], scripted_ollama: Any, tmp_path: Path
) -> None:
    settings = app_settings()
    with serve(settings) as running, running.client() as client:
        assert status(client)["state"] == "empty"
        upload(client, "handbook.md", handbook())
        assert status(client) == {
            "state": "ready", "model": "embed-model:latest", "dimensions": 512, "reindex": None,
            "message": "",
        }  # fmt: skip
    log = tmp_path / "prepare.log"
    assert replica(settings, 0, log, "app.prepare").wait(30) == REFUSED
    said = log.read_text()
    assert "indexed with embed-model:latest" in said
    assert "set models.reindex to true" in said
    assert "Traceback" not in said
    scripted_ollama.embedded_by.clear()
    changed = settings.model_copy(update={"default_embedding_model": "other-embed"})
    with serve(changed) as running, running.client() as client:
        found = eventually(client, lambda s: s["state"] == "refused")
        assert (found["model"], found["reindex"]) == ("embed-model:latest", None)
        assert "set models.reindex to true" in found["message"]
        component = client.get("/api/health").json()["components"]["embedding"]
        assert component == {"status": "error", "detail": found["message"]}
        assert client.get("/api/ready").status_code == 200, "it serves on with what it has"
        assert "Topic 7" in sections(client, 7)
        upload(client, "more.md", handbook(TOPICS, TOPICS + 1))
        assert f"Topic {TOPICS}" in sections(client, TOPICS)
        metrics = client.get("/metrics").text
        assert 'metis_embedding_index_state{state="refused"} 1.0' in metrics
    assert set(scripted_ollama.embedded_by) == {"embed-model"}


@pytest.mark.full
def test_goes_on_after_a_kill_while_questions_are_answered(
    serve: Serve,
    app_settings: Callable[..., Settings],
    scripted_ollama: Any,
    free_port: Callable[[], int],
    processes: list[subprocess.Popen[Any]],
    tmp_path: Path,
) -> None:
    settings = app_settings()
    with serve(settings) as running, running.client() as client:
        upload(client, "handbook.md", handbook())
        doomed = upload(client, "doomed.md", handbook(100, 110))
        scripted_ollama.embedded.clear()
        scripted_ollama.embedded_by.clear()
        scripted_ollama.seconds["other-embed"] = 0.03
        log = tmp_path / "replicas.log"
        processes += [replica(settings, free_port(), log)]
        found = eventually(client, lambda s: s["reindex"] and s["reindex"]["done"] > 8)
        with closing(Questioner(running)) as questioner:
            assert (found["state"], found["model"]) == ("reindexing", "embed-model:latest")
            assert found["reindex"]["model"] == "other-embed:latest"
            assert found["reindex"]["dimensions"] == 768
            assert found["reindex"]["eta_seconds"] > 0
            processes[0].kill()
            processes += [replica(settings, free_port(), log) for _ in range(2)]
            # What comes and goes meanwhile comes and goes in both.
            upload(client, "late.md", handbook(200, 204))
            assert client.delete(f"/api/documents/{doomed['id']}").status_code == 204
            eventually(client, lambda s: s["model"] == "other-embed:latest")
            answered = questioner.asked
            while questioner.asked < answered + 10:
                time.sleep(0.02)
        assert questioner.wrong == []
        # The replica with the older settings answers from the new index like the others.
        assert "Topic 202" in sections(client, 202)
        assert upload(client, "later.md", handbook(300, 301))["chunks"] == 1
        assert "Topic 300" in sections(client, 300)
        with psycopg.connect(settings.database_url, autocommit=True) as connection:

            def tables() -> list[str]:
                found = connection.execute(
                    "SELECT tablename FROM pg_tables WHERE tablename LIKE 'vectors_%'"
                )
                return [row[0] for row in found]

            deadline = time.monotonic() + 30
            while len(tables()) > 1:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            (table,) = tables()
            chunks = connection.execute("SELECT count(*) FROM chunks").fetchone()
            vectors = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            assert vectors == chunks == (TOPICS + 4 + 1,)
    again = [
        text
        for text, model in zip(scripted_ollama.embedded, scripted_ollama.embedded_by, strict=True)
        if model == "other-embed" and re.match(r"(handbook|doomed)", text)
    ]
    twice = len(again) - len(set(again))
    assert twice <= BATCH, "only the batch that was under way is embedded twice"


def test_a_model_that_is_not_there_and_a_change_of_mind(
    serve: Serve, app_settings: Callable[..., Settings], scripted_ollama: Any
) -> None:
    settings = app_settings()
    with serve(settings) as running, running.client() as client:
        upload(client, "handbook.md", handbook(0, 8))
    scripted_ollama.models.remove("other-embed")
    wanted = {"default_embedding_model": "other-embed", "reindex": True}
    with serve(settings.model_copy(update=wanted)) as running, running.client() as client:
        found = eventually(client, lambda s: s["message"])
        assert "ollama pull other-embed" in found["message"]
        assert "Topic 3" in sections(client, 3), "chat goes on"
        scripted_ollama.seconds["other-embed"] = 1.0
        scripted_ollama.models.append("other-embed")
        eventually(client, lambda s: s["state"] == "reindexing")
    # Back to the model that answers: what was built so far is dropped.
    with (
        serve(settings.model_copy(update={"reindex": True})) as running,
        running.client() as client,
    ):
        found = eventually(client, lambda s: s["state"] == "ready")
        assert (found["model"], found["reindex"]) == ("embed-model:latest", None)
        assert "Topic 3" in sections(client, 3)


def test_new_weights_of_another_length_under_the_same_name(
    serve: Serve, app_settings: Callable[..., Settings], scripted_ollama: Any
) -> None:
    settings = app_settings()
    with serve(settings) as running, running.client() as client:
        upload(client, "handbook.md", handbook(0, 8))
        scripted_ollama.dimensions["embed-model"] = 256
        response = client.post("/api/chat/query", json={"message": "Topic 3?"})
        assert response.status_code == 503
        assert "models.reindex to true" in response.json()["error"]["message"]
    changed = settings.model_copy(update={"reindex": True})
    with serve(changed) as running, running.client() as client:
        eventually(client, lambda s: s["dimensions"] == 256)
        assert "Topic 3" in sections(client, 3)
