"""From a MetisRAG to its objects, and back to its status."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.component.operator.world import World

EVERYTHING = {
    "ServiceAccount": 6,
    "ConfigMap": 5,
    "Service": 6,
    "NetworkPolicy": 8,
    "Deployment": 2,
    "StatefulSet": 3,
    "Job": 2,
}


def test_a_metisrag_becomes_objects_that_it_owns(world: World) -> None:
    created = world.create()
    assert created["status"] == {"observedGeneration": -1}, "nobody may take it for finished"
    resource = world.until_made()
    children = world.children()
    kinds = [kind for kind, _ in children]
    assert {kind: kinds.count(kind) for kind in EVERYTHING} == EVERYTHING
    for _, child in children:
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"]) == ("MetisRAG", "demo")
        assert owner["uid"] == resource["metadata"]["uid"]
        assert owner["controller"]
        assert "blockOwnerDeletion" not in owner, "a deletion must not wait for anything"
        assert child["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "metis-operator"
        managers = {f["manager"] for f in child["metadata"]["managedFields"]}
        assert managers == {"metis-operator"}
    assert len(resource["status"]["inventory"]) == len(children)


def test_the_resource_itself_is_left_alone(world: World) -> None:
    world.create()
    meta = world.until_ready()["metadata"]
    assert "finalizers" not in meta
    assert all(name.startswith("test/") for name in meta.get("annotations", {}))
    assert meta["generation"] == 1


def test_the_status_tells_the_way_to_ready(world: World) -> None:
    world.create()
    status = world.until_made()["status"]
    assert status["endpoint"] == f"http://demo-app.{world.ns}.svc:8000"
    assert status["model"] == "small-chat", "the operator's defaults lie under the spec"
    assert [c["name"] for c in status["components"]] == [
        "metis-postgres",
        "mem0-postgres",
        "ollama",
        "mem0",
        "app",
    ]
    assert world.condition("Ready")["status"] == "False"
    assert world.condition("Reconciling")["status"] == "True"
    world.play_kubelet()
    status = world.until_phase("Ready")["status"]
    assert all(c["ready"] for c in status["components"])
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "Ready": "True",
        "Reconciling": "False",
        "Stalled": "False",
    }
    assert status["selector"].endswith("app.kubernetes.io/component=app")
    world.look_again()
    assert set(world.events()) == {("Normal", "Progressing"), ("Normal", "Ready")}


def test_a_changed_spec_is_carried_out(world: World) -> None:
    world.create({"models": {"chat": "one"}})
    world.until_ready()
    before = {o["metadata"]["name"]: o for k, o in world.children() if k == "ServiceAccount"}
    world.change({"spec": {"models": {"chat": "two"}}})
    resource = world.until_made()
    assert resource["status"]["observedGeneration"] == 2
    assert resource["status"]["model"] == "two"
    app = world.get("Deployment", "demo-app")["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "DEFAULT_MODEL", "value": "two"} in app["env"]
    after = {o["metadata"]["name"]: o for k, o in world.children() if k == "ServiceAccount"}
    assert before == after, "what does not change is not written"
    world.play_kubelet()
    world.until_phase("Ready")


def test_kubectl_scale_reaches_the_app(world: World, wait: Callable[..., Any]) -> None:
    world.create({"app": {"replicas": 1}})
    world.until_ready()
    scale = world.api.path("MetisRAG", world.ns, "demo", "scale")
    assert world.api.call("GET", scale)["status"]["replicas"] == 1
    world.api.patch("MetisRAG", world.ns, "demo", {"spec": {"replicas": 3}}, "scale")
    wait(lambda: world.get("Deployment", "demo-app")["spec"]["replicas"] == 3)
    world.play_kubelet()
    world.until_phase("Ready")
    assert world.api.call("GET", scale)["status"]["replicas"] == 3


def test_kubectl_scale_sets_what_the_spec_left_open(world: World, wait: Callable[..., Any]) -> None:
    world.create()
    world.until_ready()
    scale = world.api.path("MetisRAG", world.ns, "demo", "scale")
    # There is nothing to read yet; setting it needs no reading, and kubectl does none.
    assert world.api.http.get(scale).status_code == 500
    world.api.patch("MetisRAG", world.ns, "demo", {"spec": {"replicas": 3}}, "scale")
    wait(lambda: world.get("Deployment", "demo-app")["spec"]["replicas"] == 3)
    assert world.api.call("GET", scale)["spec"]["replicas"] == 3


def test_replicas_that_the_spec_leaves_open_are_somebody_else_s(world: World) -> None:
    world.create()
    world.until_ready()
    world.api.patch("Deployment", world.ns, "demo-app", {"spec": {"replicas": 4}})
    world.look_again()
    assert world.get("Deployment", "demo-app")["spec"]["replicas"] == 4


def test_suspend_stops_the_pods_and_keeps_the_rest(world: World, wait: Callable[..., Any]) -> None:
    world.create()
    world.until_ready()
    world.change({"spec": {"suspend": True}})
    wait(lambda: all(o["spec"]["replicas"] == 0 for _, o in world.workloads()))
    world.play_kubelet()
    world.until_phase("Suspended")
    wait(lambda: world.condition("Reconciling")["reason"] == "Settled")
    assert world.condition("Ready")["reason"] == "Suspended"
    world.change({"spec": {"suspend": False}})
    wait(lambda: all(o["spec"]["replicas"] == 1 for _, o in world.workloads()))
    world.play_kubelet()
    world.until_phase("Ready")


def test_a_paused_resource_is_watched_but_not_touched(
    world: World, wait: Callable[..., Any]
) -> None:
    world.create()
    world.until_ready()
    world.change({"metadata": {"annotations": {"metisrag.dev/paused": "true"}}})
    wait(lambda: world.condition("Reconciling")["reason"] == "Paused")
    world.api.delete("Service", world.ns, "demo-mem0")
    world.change({"spec": {"models": {"chat": "other"}}})
    world.look_again()
    assert world.api.get("Service", world.ns, "demo-mem0") is None
    status = world.resource()["status"]
    assert (status["observedGeneration"], status["model"]) == (1, "small-chat")
    assert len(status["inventory"]) == sum(EVERYTHING.values())
    world.change({"metadata": {"annotations": {"metisrag.dev/paused": None}}})
    wait(lambda: world.api.get("Service", world.ns, "demo-mem0"))
    wait(lambda: world.resource()["status"]["model"] == "other")


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"models": {"chat": 7}}, "spec.models.chat"),
        ({"app": {"replicas": -1}}, "spec.app.replicas"),
        ({"auth": {"mode": "maybe"}}, "spec.auth.mode"),
        ({"deletionPolicy": "Keep"}, "spec.deletionPolicy"),
        ({"ollama": {"gpu": {"count": 0}}}, "spec.ollama.gpu.count"),
        ({"metisPostgres": {"storage": {"size": "big"}}}, "spec.metisPostgres.storage.size"),
        ({"auth": {"mode": "none", "existingSecret": "x"}}, "existingSecret"),
    ],
)
def test_a_wrong_spec_is_refused_by_the_api_server(
    world: World, spec: dict[str, Any], said: str
) -> None:
    resource = {
        "apiVersion": "metisrag.dev/v1alpha1",
        "kind": "MetisRAG",
        "metadata": {"name": "wrong"},
        "spec": spec,
    }
    answer = world.api.try_create("MetisRAG", world.ns, resource)
    assert answer.status_code == 422
    assert said in answer.json()["message"]


def test_what_only_the_chart_can_refuse_stands_on_the_resource(world: World) -> None:
    world.create({"app": {"settings": {"some_api_key": "x"}}})
    world.until_phase("Failed")
    stalled = world.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "RenderFailed")
    assert "app.settings.some_api_key looks like a secret" in stalled["message"]
    assert world.children() == []
    world.change({"spec": {"app": {"settings": None}}})
    world.until_made()
    assert world.condition("Stalled")["status"] == "False"


def test_a_bad_change_leaves_what_runs_and_its_inventory(world: World) -> None:
    world.create()
    world.until_ready()
    before = {(k, o["metadata"]["uid"]) for k, o in world.children()}
    world.change({"spec": {"app": {"settings": {"some_api_key": "x"}}}})
    status = world.until_phase("Failed")["status"]
    assert {(k, o["metadata"]["uid"]) for k, o in world.children()} == before
    assert len(status["inventory"]) == len(before)
    assert all(c["ready"] for c in status["components"]), "what runs is still reported"


def test_two_instances_of_one_namespace_are_two(world: World) -> None:
    world.create({"networkPolicy": {"enabled": False}}, name="one")
    world.create({}, name="two")
    world.until_made("one")
    world.until_made("two")
    assert not [k for k, _ in world.children("one") if k == "NetworkPolicy"]
    assert [k for k, _ in world.children("two") if k == "NetworkPolicy"]


def test_a_deleted_resource_is_gone_at_once_and_nothing_is_made_again(world: World) -> None:
    world.create()
    world.until_ready()
    world.api.delete("MetisRAG", world.ns, "demo")
    assert world.api.get("MetisRAG", world.ns, "demo") is None
    world.api.delete("Service", world.ns, "demo-app")  # as the garbage collector would
    world.create(name="other")
    world.until_made("other")
    assert world.api.get("Service", world.ns, "demo-app") is None


def test_no_field_of_the_status_is_lost_on_the_way(world: World) -> None:
    world.create()
    world.until_ready()
    assert "does not keep all of the status" not in world.operator.log.read_text()
    json.dumps(world.resource()["status"])
