from __future__ import annotations

from typing import Any

import pytest
from metis_operator.core import conditions
from metis_operator.core.conditions import Findings, Phase, Stall, condition
from metis_operator.core.health import Component
from metis_operator.core.merge_patch import between
from metis_operator.core.objects import DEPLOYMENT, POD, SERVICE, Key, Owner
from metis_operator.core.pods import Severity

UP = Component("app", True, "Ready", "", 1, 1, Severity.FINE)
STARTING = Component("mem0", False, "Starting", "Pod x is starting.", 1, 0, Severity.WAITING)
BROKEN = Component("ollama", False, "CrashLoop", "exit code 1", 1, 0, Severity.TROUBLE)
OFF = Component("app", False, "Suspended", "", 0, 0, Severity.FINE)


def told(found: Findings, before: dict[str, Any] | None = None, now: str = "t1") -> dict[str, Any]:
    return conditions.status(before or {"observedGeneration": -1}, found, now)


def states(status: dict[str, Any]) -> tuple[str, str, str]:
    return tuple(condition(status, kind)["status"] for kind in ("Ready", "Reconciling", "Stalled"))


@pytest.mark.parametrize(
    ("found", "phase", "expected"),
    [
        (Findings(1), Phase.PENDING, ("False", "True", "False")),
        (Findings(1, [UP, STARTING]), Phase.PROGRESSING, ("False", "True", "False")),
        (Findings(1, [UP]), Phase.READY, ("True", "False", "False")),
        (Findings(1, [UP, BROKEN]), Phase.DEGRADED, ("False", "True", "False")),
        (Findings(1, [OFF], suspend=True), Phase.SUSPENDED, ("False", "False", "False")),
        (
            Findings(1, [UP], stall=Stall("NameConflict", "taken")),
            Phase.FAILED,
            ("False", "False", "True"),
        ),
        (Findings(1, [UP, STARTING], paused=True), Phase.PROGRESSING, ("False", "False", "False")),
    ],
)
def test_each_state_has_its_phase_and_conditions(
    found: Findings, phase: Phase, expected: tuple[str, str, str]
) -> None:
    status = told(found)
    assert status["phase"] == phase
    assert states(status) == expected
    assert status["observedGeneration"] == 1
    assert all(c["observedGeneration"] == 1 for c in status["conditions"])


def test_trouble_gives_ready_its_reason_and_its_words() -> None:
    ready = condition(told(Findings(1, [UP, STARTING, BROKEN])), "Ready")
    assert ready["reason"] == "CrashLoop"
    assert ready["message"] == (
        "1 of 3 components are ready. ollama: exit code 1. On the way: mem0 (Starting)."
    )


def test_a_failing_probe_is_told_in_its_own_words() -> None:
    message = "Pod x, container app runs, but its readiness probe (GET /api/ready) fails."
    probing = Component("app", False, "NotReady", message, 1, 0, Severity.WAITING)
    ready = condition(told(Findings(1, [UP, probing])), "Ready")
    assert ready["message"].endswith(f"On the way: app ({message.rstrip('.')}).")


def test_what_was_ready_in_this_generation_is_degraded_when_it_is_not() -> None:
    ready = told(Findings(3, [UP]))
    assert told(Findings(3, [STARTING]), ready)["phase"] == Phase.DEGRADED
    assert told(Findings(4, [STARTING]), ready)["phase"] == Phase.PROGRESSING


def test_a_rollout_that_keeps_enough_pods_ready_degrades_nothing() -> None:
    rolling = Component("app", False, "RollingOut", "rolling out", 2, 2, Severity.WAITING)
    assert told(Findings(3, [rolling]), told(Findings(3, [UP])))["phase"] == Phase.PROGRESSING


def test_the_same_findings_make_the_same_status_at_any_time() -> None:
    for found in (Findings(1, [UP]), Findings(1, [UP, BROKEN]), Findings(1)):
        first = told(found, now="t1")
        again = told(found, first, now="t2")
        assert again == first
        assert between(first, again) == {}


def test_a_transition_time_moves_with_its_status_only() -> None:
    first = told(Findings(1, [BROKEN]), now="t1")
    worse = told(Findings(1, [BROKEN, STARTING]), first, now="t2")
    assert condition(worse, "Ready")["message"] != condition(first, "Ready")["message"]
    assert condition(worse, "Ready")["lastTransitionTime"] == "t1"
    well = told(Findings(1, [UP]), worse, now="t3")
    assert condition(well, "Ready")["lastTransitionTime"] == "t3"
    assert condition(well, "Stalled")["lastTransitionTime"] == "t1"


def test_the_inventory_survives_the_status() -> None:
    keys = [Key(DEPLOYMENT, "team", "demo-app"), Key(SERVICE, "team", "demo-app")]
    status = told(Findings(1, inventory=keys))
    assert set(conditions.inventory_of(status, "team")) == set(keys)
    stranger = {"inventory": [{"group": "x", "kind": "Unknown", "name": "y"}]}
    assert conditions.inventory_of(stranger, "team") == []


OWNER = Owner("demo", "team", "u")


def service(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "demo-app",
            "labels": {"app.kubernetes.io/component": "app"},
        },
        "spec": {"ports": [{"port": 8000}], "selector": {"x": "y"}, **spec},
    }


@pytest.mark.parametrize(
    ("live", "url"),
    [
        (service(type="ClusterIP"), ""),
        (
            service(type="NodePort", ports=[{"port": 8000, "nodePort": 30080}]),
            "http://10.1.1.1:30080",
        ),
        (service(type="LoadBalancer"), ""),
        (
            service(type="LoadBalancer")
            | {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7"}]}}},
            "http://192.0.2.7:8000",
        ),
    ],
)
def test_addresses(live: dict[str, Any], url: str) -> None:
    key = Key(SERVICE, "team", "demo-app")
    pod = {"metadata": {"labels": {"x": "y"}}, "status": {"hostIP": "10.1.1.1"}}
    observed = {key: live, Key(POD, "team", "p"): pod}
    endpoint, found = conditions.addresses(OWNER, {key: service()}, observed)
    assert endpoint == "http://demo-app.team.svc:8000"
    assert found == url


def test_no_address_without_a_service() -> None:
    assert conditions.addresses(OWNER, {}, {}) == ("", "")
