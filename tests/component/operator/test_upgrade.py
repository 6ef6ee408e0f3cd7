"""A new operator renders otherwise: its instances follow a few at a time, and stop at a failure."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.component.operator.harness import ROOT
from tests.component.operator.test_trouble import PULL, SPEC, app_pod
from tests.component.operator.world import World

NAMES = ("one", "two", "three", "four")
OLD = "0.1.0"
NEW = "0.2.0"


@pytest.fixture
def upgraded(world: World, tmp_path: Path) -> Iterator[Callable[[], None]]:
    """``upgraded()`` starts an operator of the next version in place of the present one."""
    chart = tmp_path / "stack"
    shutil.copytree(ROOT / "charts/stack", chart)
    for file in chart.rglob("Chart.yaml"):
        file.write_text(file.read_text().replace(f"appVersion: {OLD}", f"appVersion: {NEW}"))
    operator = world.operator

    def start() -> None:
        assert operator.stop() == 0
        operator.env |= {"METIS_CHART_DIR": str(chart), "METIS_UPGRADE_MAX_CONCURRENT": "2"}
        operator.start()

    yield start
    operator.stop()
    for name in ("METIS_CHART_DIR", "METIS_UPGRADE_MAX_CONCURRENT"):
        operator.env.pop(name, None)


def image(world: World, name: str) -> str:
    found = world.get("Deployment", f"{name}-app")["spec"]["template"]["spec"]["containers"]
    return str(found[0]["image"].rpartition(":")[2])


def on(world: World, version: str) -> set[str]:
    return {name for name in NAMES if image(world, name) == version}


def state(world: World, name: str) -> str:
    return str(world.resource(name)["status"].get("upgrade", {}).get("state", ""))


def states(world: World) -> list[str]:
    return sorted(state(world, name) for name in NAMES)


def test_an_upgrade_goes_in_turns_and_a_failure_stops_it(
    world: World, upgraded: Callable[[], None], wait: Callable[..., Any]
) -> None:
    for name in NAMES:
        world.create(name=name)
    for name in NAMES:
        world.until_ready(name)
        assert world.resource(name)["status"]["operatorVersion"] == OLD
    upgraded()
    wait(lambda: states(world) == ["Rolling", "Rolling", "Waiting", "Waiting"])
    first = on(world, NEW)
    assert len(first) == 2
    waiting = sorted(set(NAMES) - first)
    found = world.resource(waiting[0])["status"]
    assert (found["phase"], found["operatorVersion"]) == ("Ready", OLD)
    assert world.condition("Reconciling", waiting[0])["reason"] == "UpgradeWaiting"

    # What waits is still looked after, and a change of its own does not wait.
    world.api.delete("Service", world.ns, f"{waiting[0]}-mem0")
    wait(lambda: world.api.get("Service", world.ns, f"{waiting[0]}-mem0"))
    assert image(world, waiting[0]) == OLD
    world.change({"spec": {"app": {"podLabels": {"a": "b"}}}}, waiting[1])
    wait(lambda: image(world, waiting[1]) == NEW)

    broken, well = sorted(first)
    world.pod("app", SPEC, app_pod(**PULL), instance=broken)
    wait(lambda: state(world, broken) == "Failed")
    assert world.condition("Ready", broken)["reason"] == "ImagePullError"
    assert world.condition("Reconciling", broken)["reason"] == "UpgradeFailed"
    for name in (well, waiting[1]):
        world.play_kubelet(name)
        world.until_phase("Ready", name)
    world.look_again(waiting[0])
    assert state(world, waiting[0]) == "Waiting", "there is room, but the upgrade is stopped"
    assert image(world, waiting[0]) == OLD
    metric = world.operator.metric
    assert metric('metis_operator_upgrade{state="Failed"}') == 1
    assert metric('metis_operator_upgrade{state="Waiting"}') == 1

    # A restarted operator knows that it is stopped.
    world.operator.kill()
    world.operator.start()
    world.look_again(waiting[0])
    assert image(world, waiting[0]) == OLD

    world.api.delete("Pod", world.ns, f"{broken}-app-0")
    world.play_kubelet(broken)
    world.until_phase("Ready", broken)
    wait(lambda: image(world, waiting[0]) == NEW)
    world.play_kubelet(waiting[0])
    for name in NAMES:
        wait(lambda name=name: world.resource(name)["status"]["operatorVersion"] == NEW)
        assert "upgrade" not in world.until_phase("Ready", name)["status"]
