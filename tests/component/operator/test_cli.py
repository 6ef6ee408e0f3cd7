"""``kubectl metis`` against a real API server, as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from metis_operator.cli.exits import Exit
from metis_operator.cli.main import main

from hack import tools
from tests.component.operator.harness import (
    ADMIN,
    OPERATOR,
    OPERATOR_NAMESPACE,
    ROOT,
    Api,
    Operator,
    Wire,
)
from tests.component.operator.world import World


@dataclass
class Told:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str


@dataclass
class Cli:
    """The command line, in this process, with a kubeconfig of its own."""

    kubeconfig: Path
    capsys: pytest.CaptureFixture[str]

    def __call__(self, *words: str, code: int = 0) -> Told:
        self.capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KUBECONFIG", str(self.kubeconfig))
            patch.setenv("METIS_KUBECTL", str(tools.kubectl()))
            patch.setenv("METIS_HELM", str(tools.helm()))
            patch.setattr(sys, "argv", ["kubectl-metis"])
            ended = main(words)
        told = Told(ended, *self.capsys.readouterr())
        assert ended == code, told
        return told

    def json(self, *words: str, code: int = 0) -> Any:
        return json.loads(self(*words, "-o", "json", code=code).out)


def kubeconfig(
    folder: Path, api: Api, namespace: str, *, token: str = ADMIN, port: int = 0
) -> Path:
    path = folder / "cli.kubeconfig"
    server = f"https://127.0.0.1:{port}" if port else api.url
    context = {"cluster": "t", "user": "t", "namespace": namespace}
    cluster = {"server": server, "certificate-authority": str(api.ca)}
    body = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "t",
        "contexts": [{"name": "t", "context": context}],
        "clusters": [{"name": "t", "cluster": cluster}],
        "users": [{"name": "t", "user": {"token": token}}],
    }
    path.write_text(yaml.safe_dump(body))
    return path


@pytest.fixture(scope="module")
def installed(api: Api, operator: Operator) -> None:
    """The operator's Deployment and ConfigMap, as its chart makes them; nothing runs them here."""
    values = yaml.safe_dump({"defaults": operator.defaults})
    command = [str(tools.helm()), "template", "op", str(ROOT / "charts/operator"), "-f", "-"]
    rendered = subprocess.run(
        [*command, "-n", OPERATOR_NAMESPACE],
        input=values,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for document in yaml.safe_load_all(rendered):
        kind = document["kind"]
        if kind in ("Deployment", "ConfigMap"):
            name = document["metadata"]["name"]
            api.apply(api.path(kind, OPERATOR_NAMESPACE, name), document)


@pytest.fixture
def cli(world: World, installed: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(kubeconfig(tmp_path, world.api, world.ns), capsys)


def test_status_and_its_exit_code(world: World, cli: Cli) -> None:
    assert f"There is no MetisRAG in namespace {world.ns}" in cli("status").out
    world.create()
    world.until_made()
    assert "… app" in cli("status", "demo", code=Exit.ATTENTION).out
    world.until_ready()
    lines = cli("status").out.splitlines()
    assert lines[0].startswith(f"✓ {world.ns}/demo  Ready")
    assert "├─ ✓ app             1/1" in lines
    (item,) = cli.json("status", "demo")["items"]
    assert item["ready"] is True
    assert [c["ready"] for c in item["components"]] == [True] * 5


def test_plan_pause_resume_and_restart(world: World, cli: Cli, wait: Callable[..., Any]) -> None:
    world.create()
    world.until_ready()
    assert "Nothing would change." in cli("plan").out
    # A change: what becomes of which object, and that nothing was stored.
    before = world.children()
    told = cli(
        "plan", "demo", "--set", "mem0.resources.limits.memory=2Gi",
        "--set", "app.extraEnv=[{name: API_TOKEN, value: hush}]",
        code=Exit.ATTENTION,
    )  # fmt: skip
    assert "spec.template.spec.containers[mem0].resources.limits.memory" in told.out
    assert "1Gi → 2Gi" in told.out
    assert "New pods: app, mem0." in told.out
    assert "hush" not in told.out
    assert world.children() == before
    # What the API server refuses, and what nobody knows.
    assert "spec.app.replicas" in cli("plan", "--set", "app.replicas=x", code=Exit.FAILED).err
    assert "spec.app.folly" in cli("plan", "--set", "app.folly=1", code=Exit.FAILED).err
    # A file of a MetisRAG that is not there yet.
    example = str(ROOT / "examples" / "metisrag-gpu.yaml")
    added = cli.json("plan", "-f", example, code=Exit.ATTENTION)["changes"]
    assert {c["action"] for c in added} == {"add"}
    assert {"StatefulSet", "Secret", "MetisRAG"} <= {c["kind"] for c in added}
    assert world.api.get("MetisRAG", world.ns, "demo-gpu") is None
    # Paused, the operator leaves a change alone, and the plan shows what resume will put back.
    assert cli("pause").out == f"{world.ns}/demo is paused\n"
    assert cli.json("pause")["changed"] is False
    nobody = {"spec": {"selector": {"app.kubernetes.io/component": "nobody"}}}
    world.api.patch("Service", world.ns, "demo-app", nobody)
    assert "Paused" in cli("status", "demo").out
    told = cli("plan", "demo", code=Exit.ATTENTION)
    assert "nobody → app" in told.out
    assert "resume" in told.err
    cli("resume", "demo")

    def is_back() -> bool:
        selector = world.get("Service", "demo-app")["spec"]["selector"]
        return bool(selector["app.kubernetes.io/component"] == "app")

    wait(is_back)
    # Restarted: the pods of the app alone are made anew, and the operator does not mind.
    assert cli.json("restart", "app")["restarted"] == ["app"]
    template = world.get("Deployment", "demo-app")["spec"]["template"]["metadata"]
    assert "kubectl.kubernetes.io/restartedAt" in template["annotations"]
    other = world.get("Deployment", "demo-mem0")["spec"]["template"]["metadata"]
    assert "kubectl.kubernetes.io/restartedAt" not in other.get("annotations", {})
    assert "The components are: app" in cli("restart", "demo", "ap", code=Exit.USAGE).err


def test_what_is_not_there_is_said_with_its_cure(world: World, cli: Cli, tmp_path: Path) -> None:
    told = cli("pause", "demo", code=Exit.ABSENT)
    assert told.err.count("\n") == 1
    assert f"There is no MetisRAG demo in namespace {world.ns}." in told.err
    for name in ("one", "two"):
        world.create(name=name)
    assert "Name one of: one, two." in cli("resume", code=Exit.USAGE).err
    assert "There are: one, two." in cli("resume", "three", code=Exit.ABSENT).err
    assert "has no running containers" in cli("logs", "one", code=Exit.FAILED).err
    # Nobody listens, nobody knows me, no such context, no kubeconfig at all.
    dead = tmp_path / "dead"
    dead.mkdir()
    cli.kubeconfig = kubeconfig(dead, world.api, world.ns, port=1)
    assert "No cluster answers at https://127.0.0.1:1" in cli("status", code=Exit.UNREACHABLE).err
    cli.kubeconfig = kubeconfig(dead, world.api, world.ns, token="someone-else")
    assert "does not know you" in cli("status", code=Exit.FORBIDDEN).err
    told = cli("status", "--context", "elsewhere", code=Exit.UNREACHABLE)
    assert "elsewhere" in told.err
    cli.kubeconfig = dead / "absent"
    assert "No cluster is configured" in cli("status", code=Exit.UNREACHABLE).err


def test_what_is_forbidden_is_said(world: World, cli: Cli, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    account = {"metadata": {"name": "guest"}}
    world.api.create("ServiceAccount", world.ns, account)
    path = f"{world.api.path('ServiceAccount', world.ns, 'guest')}/token"
    token = world.api.call("POST", path, json={"spec": {}})["status"]["token"]
    cli.kubeconfig = kubeconfig(own, world.api, world.ns, token=token)
    told = cli("status", code=Exit.FORBIDDEN)
    assert f"system:serviceaccount:{world.ns}:guest" in told.err
    assert "Ask an administrator" in told.err
    # Doctor looks at what it may, and says what it may not.
    findings = cli.json("doctor")["findings"]
    said = " ".join(f["what"] for f in findings)
    assert f"You may not list metisrags in namespace {world.ns}" in said
    assert "you may not look at: " in said


def test_plan_with_the_rights_of_the_operator_alone(
    world: World, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As within its pod: it may not change a MetisRAG, and does not try to."""
    world.create()
    world.until_ready()
    within = Cli(kubeconfig(tmp_path, world.api, world.ns, token=OPERATOR), capsys)
    asked = len(world.api.operator_calls())
    assert "Nothing would change." in within("plan", "demo").out
    told = within("plan", "demo", "--set", "app.replicas=2", code=Exit.ATTENTION)
    assert "spec.replicas: + 2" in told.out or "spec.replicas: 1 → 2" in told.out
    assert "the API server was not asked whether it takes this spec" in told.err
    assert "app" in within("plan", "--set", "app.replicas=x", code=Exit.FAILED).err
    example = str(ROOT / "examples" / "metisrag-gpu.yaml")
    added = within.json("plan", "-f", example, code=Exit.ATTENTION)["changes"]
    assert {"StatefulSet", "Secret", "MetisRAG"} <= {c["kind"] for c in added}
    refused = [
        e["requestURI"]
        for e in world.api.operator_calls()[asked:]
        if e["responseStatus"]["code"] == 403
    ]
    assert refused == []


def test_doctor_on_a_bare_control_plane(world: World, cli: Cli) -> None:
    world.create({"ollama": {"gpu": {"enabled": True}}})
    findings = cli.json("doctor", "-n", world.ns, code=Exit.ATTENTION)["findings"]
    faults = {f["check"]: f["what"] for f in findings if f["severity"] == "trouble"}
    assert faults["nodes"] == "The cluster has no node."
    assert "no default storage class" in faults["storage"]
    assert f"{world.ns}/demo asks for 1 nvidia.com/gpu" in faults["gpu"]
    assert "does not run" in faults["operator"]  # no kubelet has started the one of the chart
    assert all(f["todo"] for f in findings if f["severity"] in ("trouble", "warning"))


def test_a_watch_shows_changes_and_nothing_else(
    world: World, installed: None, tmp_path: Path
) -> None:
    world.create()
    world.until_ready()
    wire = Wire(int(world.api.url.rsplit(":", 1)[1]))
    path = kubeconfig(tmp_path, world.api, world.ns, port=wire.port)
    environment = {**os.environ, "KUBECONFIG": str(path)}
    environment["METIS_KUBECTL"] = str(tools.kubectl())
    process = subprocess.Popen(
        [sys.executable, "-m", "metis_operator", "status", "demo", "--watch", "-o", "json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline()]
        wire.cut()
        assert "does not answer, trying again" in process.stderr.readline()
        world.change({"spec": {"suspend": True}})
        wire.mend()
        while '"Suspended"' not in lines[-1]:
            lines.append(process.stdout.readline())
        assert json.loads(lines[0])["items"][0]["phase"] == "Ready"
        assert all(line != before for before, line in pairwise(lines)), lines
    finally:
        process.terminate()
        assert process.wait(20) == Exit.INTERRUPTED
