"""What the API server's audit log says of the operator: it writes for a reason, within its role."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.component.operator.control_plane import operator_chart
from tests.component.operator.harness import Api, Supervisor, eventually
from tests.component.operator.world import World
from tests.rights import granted, refused, used


def idle(world: World) -> None:
    eventually(lambda: world.operator.metric("metis_operator_queue_depth") == 0, timeout=300)


@pytest.mark.parametrize(
    ("objects", "seconds"),
    [
        (5, 6.0),
        pytest.param(100, 600.0, marks=[pytest.mark.full, pytest.mark.timeout(3600)]),
    ],
)
def test_nothing_but_the_lease_is_written_in_steady_state(
    world: World, objects: int, seconds: float
) -> None:
    """With resyncs far more frequent than in a cluster, and after every object was looked at."""
    names = [f"steady-{i}" for i in range(objects)]
    world.operator.stop()
    world.operator.env["METIS_RESYNC_SECONDS"] = str(seconds / 4)
    # On a machine so busy that the Lease is lost, it is started again, as in a cluster.
    supervisor = Supervisor(world.operator)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: world.create(name=name), names))
        for name in names:
            world.until_phase("Progressing", name, timeout=900)
            world.play_kubelet(name)
        for name in names:
            world.until_phase("Ready", name, timeout=900)
        world.look_again(names[0])
        idle(world)
        writes, runs = world.api.operator_writes(), reconciles(world)
        leases = lease_writes(world.api)
        time.sleep(seconds)
        assert world.api.operator_writes() == writes
        assert lease_writes(world.api) > leases, "it is alive, and the log is read"
        assert reconciles(world) - runs >= 2 * objects, "all were looked at meanwhile"
    finally:
        del world.operator.env["METIS_RESYNC_SECONDS"]
        supervisor.close()


def reconciles(world: World) -> float:
    return world.operator.metric("metis_operator_reconciles_total")


def lease_writes(api: Api) -> int:
    calls = Counter(e["verb"] for e in api.operator_calls() if "/leases/" in e["requestURI"])
    return calls["update"] + calls["patch"]


@pytest.mark.full
@pytest.mark.last
def test_the_role_grants_what_is_used_and_no_more(api: Api, request: pytest.FixtureRequest) -> None:
    """Of all that the tests of this folder had the operator do."""
    entries = api.operator_calls()
    assert used(entries), "no test ran before this one"
    chart = operator_chart()
    assert sorted(refused(entries, chart)) == [], "outside of the role"
    here = request.path.parent
    ran = {item.path.name for item in request.session.items if item.path.parent == here}
    there = {path.name for path in here.glob("test_*.py")}
    if ran == there:
        unused = granted(chart) - used(entries)
        assert sorted(map(str, unused)) == [], "granted, and never used"
