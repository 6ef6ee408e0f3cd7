"""When the models leave the GPUs for the CPU, and when they go back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metis_operator.core import gpu, names
from metis_operator.core.gpu import STEADY, Decision, Phase, Seen, State, Wish, decide
from metis_operator.core.objects import Object, Owner
from metis_operator.gpu import state_of, status_of
from metis_operator.rotation_report import moment

CHART = {
    "ollama": {
        "gpu": {
            "enabled": False,
            "count": 1,
            "resourceName": "nvidia.com/gpu",
            "nodeSelector": {},
            "fallback": "none",
            "fallbackAfterSeconds": 30,
        },
        "nodeSelector": {},
        "tolerations": [],
        "affinity": {},
    }
}
LACK = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: none."
NOW = 1_000_000.0


def wish(**gpu_values: Any) -> Wish:
    values = {"enabled": True, "fallback": "cpu"} | gpu_values
    found = Wish.of({"ollama": {"gpu": values}}, CHART)
    assert found is not None
    return found


def on_cpu(failures: int = 1, since: float = NOW, **fields: Any) -> State:
    return State(Phase.CPU, since, wish().digest, failures, **fields)


@pytest.mark.parametrize(
    "values",
    [
        {"enabled": False, "fallback": "cpu"},
        {"enabled": True},
        {"enabled": True, "fallback": "none"},
    ],
)
def test_without_leave_there_is_nothing_to_decide(values: dict[str, Any]) -> None:
    assert Wish.of({"ollama": {"gpu": values}}, CHART) is None
    assert decide(on_cpu(), None, Seen(lack=LACK), NOW) == Decision(None)


def test_a_pod_waits_before_the_cpu_takes_over() -> None:
    seen = Seen(lack=LACK, lacking_since=NOW - 12)
    assert decide(None, wish(), seen, NOW) == Decision(None, again=18)
    late = decide(None, wish(), seen, NOW + 18)
    assert late.on_cpu
    assert late.look_out
    assert late.state == State(Phase.CPU, NOW + 18, wish().digest, 1, LACK)


def test_the_patience_is_the_spec_s() -> None:
    patient = wish(fallbackAfterSeconds=600)
    assert decide(None, patient, Seen(LACK, NOW - 599), NOW).again == pytest.approx(1)
    assert decide(None, patient, Seen(LACK, NOW - 600), NOW).on_cpu


def test_on_the_cpu_the_lookout_decides() -> None:
    assert decide(on_cpu(), wish(), Seen(), NOW + 9e5) == Decision(on_cpu(), look_out=True)
    back = decide(on_cpu(), wish(), Seen(offered=True), NOW + 50)
    assert not back.on_cpu
    assert not back.look_out
    assert back.state == replace(on_cpu(), phase=Phase.RETURNING, since=NOW + 50)


def test_what_failed_again_is_tried_later_and_later() -> None:
    waits = [on_cpu(n).lookout_from - NOW for n in (1, 2, 3, 4, 5, 20)]
    assert waits == [0, 60, 120, 240, 480, 3600]
    early = decide(on_cpu(3), wish(), Seen(offered=True), NOW + 100)
    assert early == Decision(on_cpu(3), again=20)
    assert decide(on_cpu(3), wish(), Seen(), NOW + 120).look_out


def test_back_on_the_gpus_former_failures_count_for_a_while() -> None:
    returning = State(Phase.RETURNING, NOW, wish().digest, 2)
    assert decide(returning, wish(), Seen(), NOW + 5) == Decision(returning)
    assert decide(returning, wish(), Seen(placed=True), NOW + 5).again == STEADY - 5
    lost = decide(returning, wish(), Seen(LACK, NOW + 10), NOW + 40)
    assert lost.state == State(Phase.CPU, NOW + 40, wish().digest, 3, LACK)
    assert not lost.look_out
    assert decide(returning, wish(), Seen(placed=True), NOW + STEADY) == Decision(None)


@pytest.mark.parametrize(
    "changed", [{"count": 2}, {"resourceName": "amd.com/gpu"}, {"nodeSelector": {"a": "b"}}]
)
def test_a_changed_wish_is_tried_at_once(changed: dict[str, Any]) -> None:
    assert decide(on_cpu(9), wish(**changed), Seen(), NOW) == Decision(None)


def test_the_state_survives_in_the_status() -> None:
    state = on_cpu(3, since=NOW + 0.25, said=LACK)
    assert state_of({"gpu": status_of(state)["gpu"]}) == state
    assert status_of(None) == {}
    assert state_of({}) is None
    assert state_of({"gpu": {"phase": "of a later version"}}) is None


def pod(component: str, *, resource: str = "nvidia.com/gpu", said: str = "", **meta: Any) -> Object:
    condition = {"type": "PodScheduled", "status": "False" if said else "True", "message": said}
    condition["lastTransitionTime"] = "2026-01-01T00:00:10Z"
    resources = {"limits": {resource: "1"}} if resource else {}
    labels = names.selector_labels("demo", component) | meta.pop("labels", {})
    return {
        "metadata": {"name": f"demo-{component}-0", "labels": labels, **meta},
        "spec": {"containers": [{"name": component, "resources": resources}]},
        "status": {"conditions": [condition]},
    }


def look(*pods: Object, **gpu_values: Any) -> Seen:
    return gpu.look(pods, wish(**gpu_values), moment)


def test_what_pods_tell() -> None:
    since = moment("2026-01-01T00:00:10Z")
    assert look(pod("ollama", said=LACK)) == Seen(lack=LACK, lacking_since=since or 0)
    assert look(pod("ollama")) == Seen(placed=True)
    assert look(pod("ollama", resource="")) == Seen()
    assert look(pod("ollama", said=LACK, deletionTimestamp="2026-01-01T00:00:00Z")) == Seen()
    assert look(pod("app", said=LACK)) == Seen()
    other = LACK.replace("nvidia.com/gpu", "nvidia.com/gpu.shared")
    assert look(pod("ollama", said=other)) == Seen()
    assert look(pod("ollama", said="0/1 nodes are available: 1 Insufficient cpu.")) == Seen()


def test_labels_that_no_node_has_are_a_lack_where_they_stand_for_gpus() -> None:
    said = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
    assert look(pod("ollama", said=said)) == Seen()
    assert look(pod("ollama", said=said), nodeSelector={"gpu": "yes"}).lack == said


def test_only_the_lookout_for_these_gpus_counts() -> None:
    mine = {names.LABEL_WISH: wish().digest}
    assert look(pod("gpu-lookout", labels=mine)).offered
    assert not look(pod("gpu-lookout", labels=mine, said=LACK)).offered
    assert not look(pod("gpu-lookout", labels={names.LABEL_WISH: "another"})).offered


def test_the_lookout_is_placed_as_the_model_server() -> None:
    spec = {
        "runtimeClassName": "nvidia",
        "nodeSelector": {"a": "b"},
        "tolerations": [{"key": "nvidia.com/gpu"}],
        "securityContext": {"runAsNonRoot": True},
        "containers": [{"name": "pull"}, {"name": "ollama", "image": "i", "env": [{"name": "A"}]}],
    }
    server = {
        "metadata": {"name": "demo-ollama"},
        "spec": {
            "template": {"spec": spec},
            "volumeClaimTemplates": [{"metadata": {"name": "models"}}],
        },
    }
    job = gpu.lookout(server, wish(count=2), Owner("demo", "team", "uid"))
    made = job["spec"]["template"]["spec"]
    for field in ("runtimeClassName", "nodeSelector", "tolerations", "securityContext"):
        assert made[field] == spec[field]
    (container,) = made["containers"]
    assert container["image"] == "i"
    for kind in ("requests", "limits"):
        assert container["resources"][kind]["nvidia.com/gpu"] == "2"
    assert made["volumes"][0]["persistentVolumeClaim"] == {"claimName": "models-demo-ollama-0"}
    assert job["metadata"]["ownerReferences"] == [Owner("demo", "team", "uid").reference]


def test_each_change_is_told_once() -> None:
    cpu, returning = Decision(on_cpu(said=LACK)), Decision(replace(on_cpu(), phase=Phase.RETURNING))
    kind, reason, message = gpu.news(None, cpu, wish()) or ("", "", "")
    assert (kind, reason) == ("Warning", "GPUFallback")
    for word in ("on the CPU", "30 s", "1 nvidia.com/gpu", "device plugin", "gpu.enabled", LACK):
        assert word in message
    assert gpu.news(cpu.state, cpu, wish()) is None
    assert (gpu.news(cpu.state, returning, wish()) or ("", ""))[1] == "GPUReturns"
    assert gpu.news(returning.state, Decision(None), wish()) is None


STEPS = st.lists(
    st.tuples(
        st.floats(0.5, 2000),
        st.booleans(),  # a node has the GPUs free
    ),
    max_size=40,
)


@given(steps=STEPS)
def test_it_neither_flaps_nor_gets_stuck(steps: list[tuple[float, bool]]) -> None:
    """Whatever comes and goes: changes to the GPUs are ever rarer, and never without a node."""
    state, now, asked, since, turns = None, NOW, wish(), NOW, 0
    placed = False
    for seconds, free in steps:
        now += seconds
        running_on_cpu = state is not None and state.phase is Phase.CPU
        placed = not running_on_cpu and (placed or free)
        lack = "" if running_on_cpu or placed else LACK
        looking = running_on_cpu and state is not None and now >= state.lookout_from
        seen = Seen(lack, since, placed=placed, offered=bool(looking and free))
        after = decide(state, asked, seen, now)
        if running_on_cpu and not after.on_cpu:
            assert free
            assert state is not None
            assert now >= state.lookout_from
        if after.on_cpu != running_on_cpu:
            turns, since, placed = turns + 1, now, False
        assert after.state is None or after.state.failures <= turns + 1
        state = after.state
    end = decide(state, asked, Seen(placed=not (state and state.phase is Phase.CPU)), now + 1e5)
    assert end.look_out or end.state is None
