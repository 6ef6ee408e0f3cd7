"""What ``status`` makes of a MetisRAG."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from metis_operator.cli.layout import tree
from metis_operator.cli.status_view import needs_attention, summary, trees
from metis_operator.cli.terminal import Terminal

NOW = datetime(2026, 1, 1, 1, 0, tzinfo=UTC)


def component(name: str, reason: str = "Ready", message: str = "") -> dict[str, Any]:
    ready = reason == "Ready"
    return {
        "name": name,
        "ready": ready,
        "reason": reason,
        "message": message,
        "replicas": 1,
        "readyReplicas": int(ready),
    }


def resource(
    phase: str = "Ready",
    reason: str = "AllComponentsReady",
    *components: dict[str, Any],
    name: str = "demo",
    seen: int = 2,
    paused: bool = False,
    **status: Any,
) -> dict[str, Any]:
    ready = {
        "type": "Ready",
        "status": str(phase == "Ready"),
        "reason": reason,
        "message": "in words",
        "lastTransitionTime": "2026-01-01T00:55:00Z",
    }
    return {
        "metadata": {
            "namespace": "ns",
            "name": name,
            "generation": 2,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {"metisrag.dev/paused": "true"} if paused else {},
        },
        "spec": {"models": {"embedding": "nomic"}},
        "status": {
            "phase": phase,
            "observedGeneration": seen,
            "conditions": [ready, *status.pop("conditions", ())],
            "components": list(components),
            **status,
        },
    }


def shown(*resources: dict[str, Any], whole: bool = True) -> list[str]:
    terminal = Terminal(io.StringIO(), io.StringIO(), width=80)
    return tree(trees(resources, NOW, whole=whole), terminal)


def test_trouble_comes_first_then_what_waits_then_what_is_well() -> None:
    found = shown(
        resource(
            "Degraded",
            "ImagePullError",
            component("ollama"),
            component("mem0", "WaitingForDependency", "Waiting for ollama."),
            component("app", "ImagePullError", "cannot pull image x"),
            endpoint="http://demo-app.ns.svc:8000",
            model="gemma",
        )
    )
    assert found == [
        "✗ ns/demo  Degraded  for 5m, made 60m ago",
        "├─ ✗ app       0/1  ImagePullError",
        "│    cannot pull image x",
        "├─ … mem0      0/1  WaitingForDependency",
        "│    Waiting for ollama.",
        "├─ ✓ ollama    1/1",
        "├─ · models    chat gemma, embedding nomic",
        "└─ · endpoint  http://demo-app.ns.svc:8000",
    ]


def test_what_runs_otherwise_than_asked_for_is_said_though_it_is_ready() -> None:
    ollama = component("ollama") | {"reason": "GPUFallback", "message": "on the CPU, for now"}
    said = "\n".join(shown(resource("Ready", "AllComponentsReady", component("app"), ollama)))
    assert "GPUFallback" in said
    assert "on the CPU, for now" in said


def test_of_several_those_in_trouble_come_first_and_alone_are_shown_whole() -> None:
    bad = resource("Degraded", "CrashLoop", component("app", "CrashLoop"), name="bad")
    found = shown(resource(), resource(name="other"), bad, whole=False)
    assert found[0].startswith("✗ ns/bad")
    assert [line for line in found if line.startswith("✓ ns")] == [
        "✓ ns/demo   Ready     for 5m, made 60m ago",
        "✓ ns/other  Ready     for 5m, made 60m ago",
    ]


def test_what_no_component_says_is_said_of_the_whole() -> None:
    stalled = {"type": "Stalled", "status": "True", "reason": "RenderFailed", "message": "why"}
    assert "│ RenderFailed: why" in shown(resource("Failed", "RenderFailed", conditions=[stalled]))
    assert any("Paused" in line for line in shown(resource(paused=True)))
    assert any("has not looked at it yet" in line for line in shown(resource(seen=-1)))
    assert any("latest change" in line for line in shown(resource(seen=1)))
    assert any("Suspended by its spec" in line for line in shown(resource("Suspended", "x")))


@pytest.mark.parametrize(
    ("found", "attention"),
    [
        (resource(), False),
        (resource("Suspended", "Suspended"), False),
        (resource("Progressing", "Progressing"), True),
        (resource("Degraded", "CrashLoop"), True),
        (resource("Failed", "RenderFailed"), True),
        (resource(seen=1), True),
        (resource(seen=1, paused=True), False),
        ({"metadata": {"name": "x", "namespace": "y", "generation": 1}}, True),
    ],
)
def test_who_needs_attention(found: dict[str, Any], attention: bool) -> None:
    assert needs_attention(found) is attention
    assert summary(found)["seen"] is not None


def test_a_status_of_the_past_is_not_taken_for_ready() -> None:
    assert summary(resource())["ready"] is True
    assert summary(resource(seen=1))["ready"] is False


def test_a_pull_tells_how_much_how_fast_and_how_long() -> None:
    entry = {
        "name": "gemma", "ready": False, "percent": 40, "size": 8_149_000_000,
        "bytesPerSecond": 23_500_000, "etaSeconds": 150,
    }  # fmt: skip
    failed = {"name": "other", "ready": False, "percent": 0, "message": "file does not exist"}
    text = " ".join(" ".join(shown(resource(model="gemma", models=[entry, failed]))).split())
    assert "chat gemma (40 % of 8.1 GB, 23.5 MB/s, 2m30s left)" in text
    assert "other (0 %): file does not exist" in text


def test_models_on_their_way_and_rotations_are_told() -> None:
    rotation = [
        {"component": "mem0-key", "phase": "Switching", "phaseSince": "2026-01-01T00:59:50Z"},
        {"component": "mem0-db", "phase": "Idle", "next": "2026-01-31T01:00:00Z"},
        {"component": "metis-db", "phase": "Idle", "current": "abc"},
    ]
    pulled = [{"name": "gemma", "ready": False, "percent": 40}, {"name": "nomic", "ready": True}]
    found = shown(
        resource(model="gemma", models=pulled, rotation=rotation, upgrade={"state": "Waiting"})
    )
    assert found[1:] == [
        "├─ · models    chat gemma (40 %), embedding nomic",
        "├─ · upgrade   Waiting",
        "└─ · rotation  mem0-key Switching for 10s",
    ]
    assert shown(resource(rotation=rotation[1:]))[-1] == "└─ · rotation  next mem0-db, in 30d"
