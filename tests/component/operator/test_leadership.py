"""Two operators, one of them at work: who leads, and how that passes on."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.component.operator.harness import OPERATOR_NAMESPACE, Operator, Wire
from tests.component.operator.world import World

LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{OPERATOR_NAMESPACE}/leases/op-operator"
TAKEOVER = 15.0


@pytest.fixture
def world(operator: Operator, ns: str) -> World:
    """A namespace without the operator of the other tests, which rests."""
    if operator.process is not None and operator.process.poll() is None:
        operator.stop()
    return World(operator.api, operator, ns)


@pytest.fixture
def pair(
    world: World, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[tuple[Operator, Operator]]:
    """The leader, and one that stands by."""

    def start(name: str) -> Operator:
        wire = Wire(int(world.api.url.rsplit(":", 1)[1]))
        return Operator(world.api, wire, tmp_path_factory.mktemp(name), free_port()).start()

    both = (start("first"), start("second"))
    yield both
    for left in world.api.all("MetisRAG", world.ns):
        world.api.delete("MetisRAG", world.ns, left["metadata"]["name"])
    for operator in both:
        assert operator.process is not None
        if operator.process.poll() is None:
            operator.process.send_signal(signal.SIGCONT)
            operator.stop()
        operator.wire.cut()


def holder(world: World) -> str:
    return str(world.api.call("GET", LEASE)["spec"]["holderIdentity"])


def leads(operator: Operator) -> bool:
    return operator.metric("metis_operator_leader") == 1


def applies(world: World) -> Counter[str]:
    """How often each child was written in the namespace of the test."""
    paths = [w for w in world.writes() if w.startswith("patch") and "/metisrags/" not in w]
    return Counter(paths)


def test_one_works_and_the_other_takes_over(
    world: World, pair: tuple[Operator, Operator], wait: Callable[..., Any]
) -> None:
    first, second = pair
    wait(lambda: leads(first))
    assert not leads(second)
    assert second.ask("/readyz").status_code == 200, "a rollout of the operator waits for both"
    assert holder(world) == first.folder.name
    world.create()
    world.until_made()
    before = applies(world)
    assert set(before.values()) == {1}, "nothing is applied by both"
    assert second.metric("metis_operator_actions_total") == 0
    assert second.metric('metis_operator_api_calls_total{code="200",verb="list"') == 0

    killed = time.monotonic()
    first.kill()
    world.api.delete("Service", world.ns, "demo-app")
    wait(lambda: world.api.get("Service", world.ns, "demo-app"), timeout=3 * TAKEOVER)
    took = time.monotonic() - killed
    print(f"takeover and first repair after kill -9: {took:.1f} s")
    assert took < TAKEOVER
    assert holder(world) == second.folder.name
    assert sum((applies(world) - before).values()) == 1, "only what was missing is written"

    first.start()
    assert not leads(first)
    assert second.stop() == 0
    assert "lease given back" in second.log.read_text()
    wait(lambda: leads(first), timeout=8)
    assert first.stop() == 0
    assert holder(world) == ""


@pytest.mark.full
def test_a_leader_that_slept_too_long_writes_nothing_more(
    world: World, pair: tuple[Operator, Operator], wait: Callable[..., Any]
) -> None:
    first, second = pair
    wait(lambda: leads(first))
    world.create()
    world.until_made()
    assert first.process is not None
    first.process.send_signal(signal.SIGSTOP)
    wait(lambda: leads(second), timeout=3 * TAKEOVER)
    before = applies(world)
    world.api.delete("Service", world.ns, "demo-app")
    first.process.send_signal(signal.SIGCONT)
    assert first.process.wait(40) == 1, "losing the lease ends the process"
    assert "no longer holds the Lease" in first.log.read_text()
    wait(lambda: world.api.get("Service", world.ns, "demo-app"))
    assert sum((applies(world) - before).values()) == 1
    assert first.start().ask("/readyz").status_code == 200
    assert not leads(first)


@pytest.mark.full
def test_a_leader_cut_off_from_the_api_server_ends(
    world: World, pair: tuple[Operator, Operator], wait: Callable[..., Any]
) -> None:
    first, second = pair
    wait(lambda: leads(first))
    first.wire.cut()
    assert first.process is not None
    assert first.process.wait(40) == 1
    wait(lambda: leads(second), timeout=3 * TAKEOVER)
    first.wire.mend()
