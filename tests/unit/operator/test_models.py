"""How a model stands on the MetisRAG, from its Job, the Job's pod, and what that tells."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metis_operator.core import models, names
from metis_operator.core.health import Component
from metis_operator.core.objects import CONFIG_MAP, JOB, POD, Key, Object
from metis_operator.core.pods import Severity

CHAT, EMBEDDING = "gemma3:12b", "nomic-embed-text"
JOB_KEY = Key(JOB, "team", "demo-pull-1")


def desired(*, pulled: bool = True) -> dict[Key, Object]:
    wanted = {
        "metadata": {"labels": names.selector_labels("demo", "ollama-models")},
        "data": {"models": f"{CHAT}\n{EMBEDDING}"},
    }
    found: dict[Key, Object] = {Key(CONFIG_MAP, "team", "demo-ollama-models"): wanted}
    for number, model in enumerate((CHAT, EMBEDDING), 1) if pulled else ():
        found[Key(JOB, "team", f"demo-pull-{number}")] = {
            "metadata": {
                "labels": names.selector_labels("demo", "pull"),
                "annotations": {names.ANNOTATION_MODEL: model},
            }
        }
    return found


def job(*, done: str = "") -> Object:
    conditions = [{"type": "Complete", "status": "True"}] if done else []
    return {
        "metadata": {"uid": "j"},
        "status": {"conditions": conditions, **({"completionTime": done} if done else {})},
    }


def pulling(**status: Any) -> tuple[Key, Object]:
    labels = names.selector_labels("demo", "pull") | {names.LABEL_JOB: JOB_KEY.name}
    pod = {"metadata": {"name": "p", "labels": labels}, "status": status}
    return Key(POD, "team", "p"), pod


RUNNING = {"phase": "Running", "podIP": "10.0.0.7"}


def chat_status(
    observed: dict[Key, Object],
    told: dict[str, Any] | None = None,
    before: dict[str, Any] | None = None,
) -> dict[str, Any]:
    said = {} if told is None else {CHAT: told}
    former = [] if before is None else [{"name": CHAT, **before}]
    found = models.statuses(desired(), observed, said, former, served=False)
    assert [m["name"] for m in found] == [CHAT, EMBEDDING]
    return found[0]


def test_a_pull_under_way_is_asked_for_and_told() -> None:
    observed = {JOB_KEY: job(), **dict([pulling(**RUNNING)])}
    assert models.running(desired(), observed) == {CHAT: "10.0.0.7"}
    told = {
        "state": "Pulling", "percent": 42, "total": 1000, "completed": 420, "message": "",
        "bytesPerSecond": 10, "etaSeconds": 58,
    }  # fmt: skip
    assert chat_status(observed, told) == {
        "name": CHAT, "ready": False, "state": "Pulling", "percent": 42, "size": 1000,
        "bytesPerSecond": 10, "etaSeconds": 58,
    }  # fmt: skip


def test_a_model_is_ready_when_its_job_is_done() -> None:
    observed = {JOB_KEY: job(done="2026-01-01T00:00:00Z"), **dict([pulling(**RUNNING)])}
    assert models.running(desired(), observed) == {}
    before = {"percent": 99, "size": 1000, "ready": False}
    assert chat_status(observed, None, before) == {
        "name": CHAT, "ready": True, "state": "Ready", "percent": 100, "size": 1000,
    }  # fmt: skip
    # The pod says 100 before the Job is done; one that can be used is 100.
    told = {"state": "Ready", "percent": 100, "total": 1000}
    assert chat_status({JOB_KEY: job()}, told)["percent"] == 99


def test_what_was_reached_stays_while_nobody_knows_better() -> None:
    before = {"percent": 60, "size": 1000, "ready": False}
    found = chat_status({JOB_KEY: job()}, None, before)
    assert (found["percent"], found["state"]) == (60, "Waiting")
    assert found["message"] == "Job/demo-pull-1 has no pod yet."
    begins = {"state": "Pulling", "percent": 0, "total": 0}
    assert chat_status({JOB_KEY: job()}, begins, before)["percent"] == 60
    goes_on = {"state": "Pulling", "percent": 55, "total": 1000}
    assert chat_status({JOB_KEY: job()}, goes_on, before)["percent"] == 55
    # A model that was there and is pulled anew begins at nothing.
    assert chat_status({JOB_KEY: job()}, None, {"percent": 100, "ready": True})["percent"] == 0


def test_a_job_whose_pod_cannot_start_says_why() -> None:
    waiting = {"reason": "ErrImagePull", "message": "no such image"}
    status = {"name": "pull", "image": "app:1", "state": {"waiting": waiting}}
    observed = {JOB_KEY: job(), **dict([pulling(phase="Pending", containerStatuses=[status])])}
    assert "no such image" in chat_status(observed)["message"]


@pytest.mark.parametrize(("served", "percent"), [(True, 100), (False, 0)])
def test_models_that_are_brought_are_there_when_the_server_is_ready(
    served: bool, percent: int
) -> None:
    found = models.statuses(desired(pulled=False), {}, {}, [], served=served)
    assert [(m["ready"], m["percent"]) for m in found] == [(served, percent)] * 2


def component(name: str, *, ready: bool = False, reason: str = "NotReady") -> Component:
    return Component(name, ready, reason, "its probe fails", 1, int(ready), Severity.WAITING)


def test_a_server_without_its_models_is_told_of_by_their_names() -> None:
    entries = [{"name": CHAT, "ready": False}, {"name": EMBEDDING, "ready": True}]
    parts = [component(names.OLLAMA), component(names.APP), component(names.MEM0)]
    ollama, app, mem0 = models.explained(parts, entries)
    assert (ollama.reason, ollama.message) == ("PullingModels", f"Waits for {CHAT}.")
    assert ollama.severity is Severity.WAITING
    assert (app.reason, mem0.reason) == ("NotReady", "NotReady")


def test_a_new_model_is_waited_for_by_the_app_while_the_server_works_on() -> None:
    entries = [{"name": CHAT, "ready": False}]
    _, app = models.explained([component(names.OLLAMA, ready=True), component(names.APP)], entries)
    assert (app.reason, app.message) == ("PullingModels", f"Waits for {CHAT}.")


def test_the_registrys_reason_is_trouble() -> None:
    entries = [{"name": CHAT, "ready": False, "state": "Failed", "message": "file does not exist"}]
    (ollama,) = models.explained([component(names.OLLAMA)], entries)
    assert (ollama.reason, ollama.severity) == ("ModelPullFailed", Severity.TROUBLE)
    assert ollama.message == f"{CHAT} cannot be pulled: file does not exist."


def test_other_trouble_is_not_blamed_on_models() -> None:
    crash = component(names.OLLAMA, reason="CrashLoop")
    assert models.explained([crash], [{"name": CHAT, "ready": False}]) == [crash]
    well = component(names.OLLAMA, ready=True)
    assert models.explained([well], [{"name": CHAT, "ready": False}]) == [well]


ENTRY = {"name": CHAT, "ready": False, "state": "Pulling", "percent": 40, "etaSeconds": 9}


@pytest.mark.parametrize(
    ("change", "seconds", "written"),
    [
        ({}, 1000.0, False),
        ({"percent": 41}, 1.0, False),
        ({"percent": 41}, 3.0, True),
        ({"etaSeconds": 8}, 10.0, False),
        ({"etaSeconds": 8}, 20.0, True),
        ({"state": "Failed"}, 0.0, True),
        ({"message": "stopped"}, 0.0, True),
        ({"ready": True}, 0.0, True),
    ],
)
def test_numbers_alone_are_written_seldom(
    change: dict[str, Any], seconds: float, written: bool
) -> None:
    assert models.to_write([ENTRY], [{**ENTRY, **change}], seconds) is written


@given(st.lists(st.fixed_dictionaries({"name": st.text(), "percent": st.integers()}), max_size=4))
def test_without_news_nothing_is_written(entries: list[dict[str, Any]]) -> None:
    assert not models.to_write(entries, [dict(e) for e in entries], 1e9)


def server(created: str, *, ready: bool = False) -> tuple[Key, Object]:
    state = {"running": {"startedAt": "2026-01-01T10:00:05Z"}}
    status = {"name": "ollama", "started": True, "ready": ready, "state": state}
    pod = {
        "metadata": {
            "labels": names.selector_labels("demo", names.OLLAMA),
            "creationTimestamp": created,
        },
        "status": {"containerStatuses": [status]},
    }
    return Key(POD, "team", "demo-ollama-0"), pod


@pytest.mark.parametrize(
    ("done", "created", "ready", "repeated"),
    [
        ("2026-01-01T09:00:00Z", "2026-01-01T10:00:00Z", False, True),
        ("2026-01-01T09:00:00Z", "2026-01-01T10:00:00Z", True, False),
        ("2026-01-01T11:00:00Z", "2026-01-01T10:00:00Z", False, False),
        ("", "2026-01-01T10:00:00Z", False, False),
    ],
)
def test_a_server_that_lost_its_models_gets_them_again(
    done: str, created: str, ready: bool, repeated: bool
) -> None:
    observed = {JOB_KEY: job(done=done), **dict([server(created, ready=ready)])}
    found = models.to_repeat(desired(), observed)
    assert [key for key, _, _ in found] == ([JOB_KEY] if repeated else [])
    assert all(models.started_at(pod) == "2026-01-01T10:00:05Z" for _, _, pod in found)
