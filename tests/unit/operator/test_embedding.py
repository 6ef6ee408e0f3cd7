"""What the status tells of a change of the embedding model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from metis_operator.core import conditions, embedding, names
from metis_operator.core.conditions import Findings
from metis_operator.core.objects import DEPLOYMENT, Key
from metis_operator.core.pods import EMBEDDING_REFUSED, Severity, examine
from metis_operator.embedding import Embeddings
from metis_operator.observe import Instance

BODY = {
    "state": "reindexing", "model": "small:latest", "dimensions": 384, "message": "",
    "reindex": {
        "model": "large:latest", "dimensions": 768, "done": 50, "total": 200, "percent": 25,
        "rate": 10.04, "eta_seconds": 15, "message": "",
    },
}  # fmt: skip


def test_progress() -> None:
    found = embedding.status_of(BODY, "large")
    assert found == {
        "state": "Reindexing", "model": "small:latest", "wanted": "large", "percent": 25,
        "done": 50, "total": 200, "rate": "10.0/s", "etaSeconds": 15,
    }  # fmt: skip
    said = embedding.told(found)
    assert "50 of 200 pieces (25 %) of the documents" in said
    assert "15 s left" in said
    assert "small:latest answers till then" in said


def test_what_it_waits_for_is_told() -> None:
    stuck = {**BODY, "reindex": {**BODY["reindex"], "message": "the model large is missing"}}  # type: ignore[dict-item]
    assert embedding.told(embedding.status_of(stuck, "large")).endswith("large is missing")
    unasked = {"state": "ready", "model": "small:latest", "reindex": None, "message": ""}
    assert embedding.status_of(unasked, "large")["state"] == "Waiting"


def test_the_end() -> None:
    for model in ("large:latest", None):
        body = {"state": "ready", "model": model, "reindex": None, "message": ""}
        found = embedding.status_of(body, "large")
        assert found["state"] == "Complete"
        assert embedding.told(found) == ""


def test_the_memories_follow() -> None:
    there = {"model": "large", "reindex": None, "message": None}
    found = embedding.status_of(there, "large", BODY)
    assert found["state"] == "Complete"
    assert found["memories"]["done"] == 50
    assert embedding.state(found) == "Reindexing"
    assert "50 of 200 records (25 %) of the memories" in embedding.told(found)
    both = embedding.status_of(BODY, "large", BODY)
    assert "documents" in embedding.told(both)
    assert "memories" in embedding.told(both)
    done = embedding.status_of(there, "large", there)
    assert (embedding.state(done), embedding.told(done)) == ("Complete", "")


def test_a_condition_is_there_while_it_lasts() -> None:
    def kinds(found: dict[str, Any]) -> dict[str, str]:
        status = conditions.status({}, Findings(1, embedding=found), "2026-01-01T00:00:00Z")
        return {c["type"]: c["reason"] for c in status["conditions"]}

    assert kinds(embedding.status_of(BODY, "large"))["Reindexing"] == "Reindexing"
    assert "Reindexing" not in kinds({"state": "Complete"})
    assert "Reindexing" not in kinds({})


def test_a_refusal_by_the_pods_is_known_by_its_exit_status() -> None:
    def pod(code: int) -> dict[str, Any]:
        said = "metis: metis-postgres: schema 0003\nmetis: indexed with a, the settings ask for b"
        ended = {"exitCode": code, "message": said}
        waits = {"waiting": {"reason": "CrashLoopBackOff"}}
        state = {"name": "prepare", "state": waits, "lastState": {"terminated": ended}}
        return {"metadata": {"name": "p"}, "status": {"initContainerStatuses": [state]}}

    refused = examine(pod(3), [], "app")
    assert refused is not None
    assert (refused.reason, refused.severity) == (EMBEDDING_REFUSED, Severity.TROUBLE)
    assert refused.message == "indexed with a, the settings ask for b."
    other = examine(pod(1), [], "app")
    assert other is not None
    assert other.reason == "InitFailed"


async def test_a_memory_server_that_does_not_answer_is_not_taken_for_one_that_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def part(component: str) -> Any:
        env = [{"name": "DEFAULT_EMBEDDING_MODEL", "value": "large"}]
        container = {"name": component, "env": env}
        labels = {names.LABEL_COMPONENT: component}
        template = {"spec": {"containers": [container]}}
        return {"metadata": {"name": component, "labels": labels}, "spec": {"template": template}}

    desired = {Key(DEPLOYMENT, "ns", c): part(c) for c in (names.APP, names.MEM0)}
    before = {"state": "Complete", "wanted": "large", "memories": {"state": "Reindexing"}}
    run: Any = SimpleNamespace(
        instance=Instance("ns", "demo"), desired=desired, before={"embedding": before}
    )
    there = {"model": "large", "reindex": None, "message": None}
    store: Any = SimpleNamespace(children=lambda _: {})
    looking = Embeddings(cast("Any", None), store, lambda _: None)
    said: dict[str, Any] = {"app": there, "mem0": None}

    async def index(_: Any) -> Any:
        return said["app"]

    async def memories(_: Any) -> Any:
        return said["mem0"]

    monkeypatch.setattr(embedding, "witness", lambda *_: {})
    monkeypatch.setattr(looking._witnesses, "index", index)
    monkeypatch.setattr(looking, "_memories", memories)
    values = {"models": {"reindex": True}}
    assert await looking.look(run, values) == before
    said["mem0"] = there
    looking.forget(run.instance)
    assert embedding.state(await looking.look(run, values)) == "Complete"
    await looking.close()
