"""The process itself: its CRD, its settings, its end, and what it may see."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.component.operator.control_plane import install_role
from tests.component.operator.harness import OPERATOR_NAMESPACE
from tests.component.operator.world import World

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/metisrags.metisrag.dev"
VERSION = "metisrag.dev/crd-version"


def command(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("METIS_", "KUBE"))}
    return subprocess.run(
        [sys.executable, "-m", "metis_operator", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**kept, **env},
    )


def crd(api: Any, patch: dict[str, Any] | None = None) -> dict[str, Any]:
    if patch is None:
        return dict(api.call("GET", CRD))
    headers = {"Content-Type": "application/merge-patch+json"}
    return dict(api.call("PATCH", CRD, json=patch, headers=headers))


@pytest.fixture
def restarted(world: World) -> Callable[[], None]:
    def restart() -> None:
        assert world.operator.stop() == 0
        world.operator.start()

    return restart


@pytest.fixture
def original_crd(world: World) -> Iterator[dict[str, Any]]:
    found = crd(world.api)
    yield copy.deepcopy(found)
    annotations = {**(found["metadata"].get("annotations") or {})}
    crd(
        world.api,
        {
            "metadata": {"annotations": {VERSION: annotations.get(VERSION)}},
            "spec": {"names": found["spec"]["names"]},
        },
    )


def test_an_older_crd_is_brought_up_to_date_and_a_newer_one_left_alone(
    world: World, restarted: Callable[[], None], original_crd: dict[str, Any]
) -> None:
    assert original_crd["spec"]["names"]["shortNames"] == ["mrag"]
    old = {"spec": {"names": {"shortNames": ["old"]}}}
    crd(world.api, {"metadata": {"annotations": {VERSION: None}}, **old})
    restarted()
    assert crd(world.api)["spec"]["names"]["shortNames"] == ["mrag"]
    crd(world.api, {"metadata": {"annotations": {VERSION: "999.0.0"}}, **old})
    restarted()
    assert crd(world.api)["spec"]["names"]["shortNames"] == ["old"]
    assert "newer than this operator's" in world.operator.log.read_text()


def test_it_ends_at_once_when_told_to(world: World) -> None:
    world.create()
    world.until_made()
    assert world.operator.stop() == 0
    assert "Traceback" not in world.operator.log.read_text()


def test_it_waits_for_an_api_server_and_can_be_stopped_meanwhile(
    world: World, wait: Callable[..., Any]
) -> None:
    operator = world.operator
    operator.stop()
    operator.wire.cut()
    try:
        operator.start(wait=False)
        wait(lambda: operator.ask("/healthz").status_code == 200, timeout=40)
        assert operator.ask("/readyz").status_code == 503
        assert operator.stop() == 0
        operator.start(wait=False)
        wait(lambda: operator.ask("/healthz").status_code == 200, timeout=40)
    finally:
        operator.wire.mend()
    wait(operator.is_ready, timeout=60)


CLUSTER_WIDE = ("clusterrolebindings", "clusterroles")


@pytest.fixture
def namespaced(world: World) -> Iterator[None]:
    """The operator has the role for the test's namespace, and none in the cluster."""
    operator, rbac = world.operator, "/apis/rbac.authorization.k8s.io/v1"
    operator.stop()
    for kind in CLUSTER_WIDE:
        for found in world.api.call("GET", f"{rbac}/{kind}")["items"]:
            name = found["metadata"]["name"]
            if name.startswith(f"{OPERATOR_NAMESPACE}-op-operator"):
                world.api.call("DELETE", f"{rbac}/{kind}/{name}")
    install_role(world.api, "--set", f"watchNamespace={world.ns},crd.manage=false")
    operator.env |= {"METIS_WATCH_NAMESPACE": world.ns, "METIS_CRD_FILE": ""}
    yield
    operator.stop()
    for name in ("METIS_WATCH_NAMESPACE", "METIS_CRD_FILE"):
        del operator.env[name]
    install_role(world.api)


def test_one_namespace_only_with_a_role_in_it_alone(
    world: World, namespaced: None, wait: Callable[..., Any]
) -> None:
    other = World(world.api, world.operator, f"{world.ns}-other")
    world.api.call("POST", "/api/v1/namespaces", json={"metadata": {"name": other.ns}})
    before = len(world.api.operator_calls())
    world.operator.start()
    other.create(name="unseen")
    world.create()
    world.until_ready()
    assert other.resource("unseen")["status"] == {"observedGeneration": -1}
    refused = [
        e["requestURI"]
        for e in world.api.operator_calls()[before:]
        if e["responseStatus"]["code"] == 403
    ]
    assert refused == [], "it asks for nothing beyond its role"
    world.api.delete("MetisRAG", other.ns, "unseen")


def test_a_fight_over_a_field_is_named_and_slows_down(
    world: World, wait: Callable[..., Any]
) -> None:
    world.create()
    world.until_ready()

    def meddle() -> bool:
        world.api.patch("ConfigMap", world.ns, "demo-app", {"data": {"config.json": "mine"}})
        return bool(world.condition("Stalled")["reason"] == "Contested")

    wait(meddle)
    message = world.condition("Stalled")["message"]
    assert "ConfigMap/demo-app" in message
    assert "data.config.json" in message
    before = len(world.writes())
    for _ in range(50):
        meddle()
    assert len(world.writes()) - before < 10


def test_what_it_serves(world: World) -> None:
    world.create()
    world.until_ready()
    assert world.operator.ask("/healthz").text == "ok\n"
    assert world.operator.ask("/readyz").text == "ok\n"
    text = world.operator.ask("/metrics").text
    for name in (
        'metis_operator_reconciles_total{outcome="settled"}',
        'metis_operator_api_calls_total{code="200",verb="apply"}',
        'metis_operator_api_calls_total{code="200",verb="status"}',
        "metis_operator_reconcile_seconds_count",
        "metis_operator_ready_seconds_count",
        'metis_operator_upgrade{state="Waiting"} 0.0',
        "metis_operator_leader 1.0",
        "metis_operator_queue_depth ",
        'metis_operator_objects{phase="Ready"}',
        "metis_operator_api_up 1.0",
    ):
        assert name in text


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["credentials", "--help"]])
def test_help(arguments: list[str]) -> None:
    told = command(*arguments)
    assert told.returncode == 0
    assert told.stdout.startswith("usage: python -m metis_operator")


def test_the_version() -> None:
    told = command("version")
    assert told.returncode == 0
    assert told.stdout.count(".") == 2


@pytest.mark.parametrize(
    ("arguments", "env", "code", "said"),
    [
        (["fly"], {}, 64, "invalid choice"),
        ([], {}, 64, "COMMAND"),
        (["credentials"], {}, 64, "--instance"),
        (["run"], {"METIS_CHART_DIR": "/nowhere"}, 1, "set METIS_CHART_DIR"),
    ],
)
def test_a_wrong_call_is_explained_without_a_stack_trace(
    arguments: list[str], env: dict[str, str], code: int, said: str
) -> None:
    told = command(*arguments, **env)
    assert told.returncode == code
    assert said in told.stderr
    assert "Traceback" not in told.stderr


def test_a_signal_before_anything_began(world: World, wait: Callable[..., Any]) -> None:
    operator = world.operator
    operator.stop()
    operator.start(wait=False)
    assert operator.process is not None
    wait(lambda: "operator started" in operator.log.read_text(), timeout=40)
    operator.process.send_signal(signal.SIGINT)
    assert operator.process.wait(30) == 0


STUBBORN = """
import asyncio, contextlib
from metis_operator.ending import LastResort

async def never() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)

async def main() -> None:
    LastResort(0.5, 7).start()
    task = asyncio.create_task(never())
    await asyncio.sleep(0)
    task.cancel()

asyncio.run(main())
"""


def test_a_process_with_a_task_that_never_lets_go_ends_all_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", STUBBORN], capture_output=True, timeout=30)
    assert done.returncode == 7
