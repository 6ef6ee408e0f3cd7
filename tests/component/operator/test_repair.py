"""The cluster is put back to what the spec says, and left alone when it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.component.operator.world import World


def test_nothing_is_written_when_nothing_changed(world: World) -> None:
    for name in ("one", "two", "three"):
        world.create(name=name)
    for name in ("one", "two", "three"):
        world.until_ready(name)
    before = world.writes()
    for name in ("one", "two", "three"):
        world.look_again(name)
    assert world.writes() == before


def test_a_restarted_operator_writes_nothing(world: World) -> None:
    world.create()
    world.until_ready()
    before = world.api.operator_writes()
    assert world.operator.stop() == 0
    world.operator.start()
    world.look_again()
    assert world.api.operator_writes() == before


def test_drift_is_put_back(world: World, wait: Callable[..., Any]) -> None:
    world.create({"app": {"replicas": 2}})
    world.until_ready()
    image = world.get("Deployment", "demo-app")["spec"]["template"]["spec"]["containers"][0][
        "image"
    ]
    template = {"template": {"spec": {"containers": [{"name": "app", "image": "evil:1"}]}}}
    world.api.call(
        "PATCH",
        world.api.path("Deployment", world.ns, "demo-app"),
        json={"spec": {"replicas": 5, **template}},
        headers={"Content-Type": "application/strategic-merge-patch+json"},
    )
    world.api.patch("ConfigMap", world.ns, "demo-app", {"data": {"config.json": "{}broken"}})
    world.api.delete("Service", world.ns, "demo-ollama")
    world.api.patch("Service", world.ns, "demo-mem0", {"spec": {"selector": {"one": "more"}}})
    world.api.patch(
        "ServiceAccount",
        world.ns,
        "demo-app",
        {"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}},
    )
    started = time.monotonic()

    def is_back() -> bool:
        app = world.get("Deployment", "demo-app")["spec"]
        account = world.get("ServiceAccount", "demo-app")["metadata"]["labels"]
        return (
            app["replicas"] == 2
            and app["template"]["spec"]["containers"][0]["image"] == image
            and "broken" not in world.get("ConfigMap", "demo-app")["data"]["config.json"]
            and world.api.get("Service", world.ns, "demo-ollama") is not None
            and "one" not in world.get("Service", "demo-mem0")["spec"]["selector"]
            and account["app.kubernetes.io/managed-by"] == "metis-operator"
        )

    wait(is_back)
    assert time.monotonic() - started < 5


def test_what_others_add_stays(world: World) -> None:
    world.create()
    world.until_ready()
    world.api.patch("Service", world.ns, "demo-app", {"metadata": {"annotations": {"team": "x"}}})
    world.look_again()
    assert world.get("Service", "demo-app")["metadata"]["annotations"]["team"] == "x"


def test_what_the_spec_no_longer_asks_for_goes(world: World, wait: Callable[..., Any]) -> None:
    world.create()
    world.until_ready()
    mine = {
        "metadata": {"name": "mine", "labels": {"app.kubernetes.io/instance": "demo"}},
        "spec": {"podSelector": {}},
    }
    world.api.create("NetworkPolicy", world.ns, mine)
    world.change({"spec": {"networkPolicy": {"enabled": False}}})
    wait(
        lambda: (
            [o["metadata"]["name"] for o in world.api.all("NetworkPolicy", world.ns)] == ["mine"]
        )
    )
    status = world.until_phase("Ready")["status"]
    assert "NetworkPolicy" not in {entry["kind"] for entry in status["inventory"]}


def test_somebody_else_s_object_is_not_touched(world: World, wait: Callable[..., Any]) -> None:
    theirs = world.api.create(
        "ConfigMap", world.ns, {"metadata": {"name": "demo-app"}, "data": {"a": "b"}}
    )
    world.create()
    world.until_phase("Failed")
    stalled = world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "NameConflict")
    assert "ConfigMap/demo-app exists and belongs to someone else" in stalled["message"]
    assert world.get("ConfigMap", "demo-app") == theirs
    assert len(world.workloads()) == 5, "the rest is made all the same"
    world.api.delete("ConfigMap", world.ns, "demo-app")
    world.play_kubelet()
    world.until_phase("Ready", timeout=60)
    assert "config.json" in world.get("ConfigMap", "demo-app")["data"]


def test_children_of_a_former_resource_are_adopted(world: World, wait: Callable[..., Any]) -> None:
    world.create()
    world.until_ready()
    world.api.delete("MetisRAG", world.ns, "demo")
    uid = world.create()["metadata"]["uid"]

    def owners() -> set[tuple[str, ...]]:
        references = [o["metadata"]["ownerReferences"] for _, o in world.children()]
        return {tuple(r["uid"] for r in found) for found in references}

    wait(lambda: owners() == {(uid,)})
    world.play_kubelet()
    world.until_phase("Ready")


def test_an_immutable_field_leads_to_a_replacement_around_the_pods(
    world: World, wait: Callable[..., Any]
) -> None:
    world.create({"ollama": {"storage": {"size": "2Gi"}}})
    world.until_ready()
    former = world.get("StatefulSet", "demo-ollama")["metadata"]["uid"]
    world.change({"spec": {"ollama": {"storage": {"size": "3Gi"}}}})

    def is_orphaned() -> bool:
        meta = world.get("StatefulSet", "demo-ollama")["metadata"]
        return bool(meta.get("finalizers") == ["orphan"] and meta["uid"] == former)

    wait(is_orphaned)
    # What the garbage collector does once it has taken the owner off the pods.
    world.api.patch("StatefulSet", world.ns, "demo-ollama", {"metadata": {"finalizers": None}})

    def is_new() -> bool:
        found = world.get("StatefulSet", "demo-ollama")
        (claim,) = found["spec"]["volumeClaimTemplates"]
        size = claim["spec"]["resources"]["requests"]["storage"]
        return bool(found["metadata"]["uid"] != former and size == "3Gi")

    wait(is_new)


def test_killed_in_the_middle_it_finishes_after_the_restart(
    world: World, wait: Callable[..., Any]
) -> None:
    world.create()
    wait(lambda: world.api.all("Secret", world.ns))
    world.operator.kill()
    secrets = {o["metadata"]["name"]: o["data"] for o in world.api.all("Secret", world.ns)}
    world.operator.start()
    world.until_ready()
    after = {o["metadata"]["name"]: o["data"] for o in world.api.all("Secret", world.ns)}
    assert secrets.items() <= after.items()
    assert len(world.children()) == 32


def test_what_the_cluster_refuses_stands_on_the_resource(
    world: World, wait: Callable[..., Any]
) -> None:
    quota = {"metadata": {"name": "few"}, "spec": {"hard": {"services": "2"}}}
    world.api.create("ResourceQuota", world.ns, quota)
    hard = {"status": {"hard": {"services": "2"}, "used": {"services": "0"}}}
    world.api.patch("ResourceQuota", world.ns, "few", hard, "status")
    world.create()
    world.until_phase("Failed")
    stalled = world.condition("Stalled")
    assert stalled["reason"] == "Rejected"
    assert "exceeded quota: few" in stalled["message"]
    world.api.delete("ResourceQuota", world.ns, "few")
    world.play_kubelet()
    world.until_phase("Ready", timeout=60)


def test_an_api_server_that_goes_away_and_comes_back(
    world: World, wait: Callable[..., Any]
) -> None:
    world.create()
    world.until_ready()
    operator = world.operator
    operator.wire.cut()
    try:
        assert operator.process is not None
        assert operator.process.wait(40) == 1, "without its lease it ends"
        operator.start(wait=False)  # as a supervisor does
        wait(lambda: operator.ask("/readyz").status_code == 503, timeout=40)
        wait(lambda: "API server" in operator.ask("/readyz").text)
        assert operator.ask("/healthz").status_code == 200, "a restart would not help"
        world.api.delete("Service", world.ns, "demo-app")
    finally:
        operator.wire.mend()
    wait(lambda: operator.ask("/readyz").status_code == 200, timeout=40)
    wait(lambda: world.api.get("Service", world.ns, "demo-app"), timeout=30)
    world.until_phase("Ready")
