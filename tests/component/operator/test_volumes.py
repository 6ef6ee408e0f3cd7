"""Volumes: what the API server refuses at once, what grows, and what is told of the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.component.operator.world import World

CLAIM = "models-demo-ollama-0"


def patch(world: World, spec: dict[str, Any]) -> httpx.Response:
    return world.api.http.patch(
        world.api.path("MetisRAG", world.ns, "demo"),
        json={"spec": spec},
        headers={"Content-Type": "application/merge-patch+json"},
    )


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"className": "a"}, {"className": "b"}, "make a new MetisRAG and move the data"),
        ({"size": "2Gi"}, {"size": "2000Mi"}, "a volume cannot shrink"),
        ({"size": "3000000000"}, {"size": 2000000000}, "a volume cannot shrink"),
    ],
)
def test_what_a_volume_cannot_become_is_refused_at_once(
    world: World, before: dict[str, Any], after: dict[str, Any], said: str
) -> None:
    world.create({"metisPostgres": {"storage": before}})
    answer = patch(world, {"metisPostgres": {"storage": after}})
    assert answer.status_code == 422
    assert "spec.metisPostgres.storage" in answer.json()["message"]
    assert said in answer.json()["message"]


def test_the_same_said_otherwise_and_more_is_admitted(world: World) -> None:
    world.create({"metisPostgres": {"storage": {"size": "2Gi", "className": "a"}}})
    for size in ("2048Mi", 2147483648, "3Gi"):
        answer = patch(world, {"metisPostgres": {"storage": {"size": size, "className": "a"}}})
        assert answer.status_code == 200, answer.text


@pytest.fixture
def storage_class(world: World) -> Iterator[Callable[[bool], str]]:
    """``storage_class(grows)`` makes a StorageClass; it is removed afterwards."""
    path, made = "/apis/storage.k8s.io/v1/storageclasses", []

    def make(grows: bool) -> str:
        made.append(f"c-{uuid4().hex[:8]}")
        body = {
            "metadata": {"name": made[-1]},
            "provisioner": "example.com/none",
            "allowVolumeExpansion": grows,
        }
        world.api.call("POST", path, json=body)
        return made[-1]

    yield make
    for name in made:
        world.api.call("DELETE", f"{path}/{name}")


def bind(world: World, storage_class: str, size: str) -> None:
    """The claim as the cluster's controllers leave it behind: bound to a volume."""
    labels = world.get("StatefulSet", "demo-ollama")["spec"]["selector"]["matchLabels"]
    spec = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": size}},
        "volumeName": "somewhere",
    }
    claim = {"metadata": {"name": CLAIM, "labels": labels}, "spec": spec}
    world.api.create("PersistentVolumeClaim", world.ns, claim)
    status = {"status": {"phase": "Bound", "capacity": {"storage": size}}}
    world.api.patch("PersistentVolumeClaim", world.ns, CLAIM, status, "status")


def size_of(obj: dict[str, Any]) -> str:
    return str(obj["spec"]["resources"]["requests"]["storage"])


def template(world: World) -> dict[str, Any]:
    (found,) = world.get("StatefulSet", "demo-ollama")["spec"]["volumeClaimTemplates"]
    return dict(found)


def test_a_volume_grows_where_its_class_allows_it(
    world: World, wait: Callable[..., Any], storage_class: Callable[[bool], str]
) -> None:
    name = storage_class(True)
    world.create({"ollama": {"storage": {"size": "2Gi", "className": name}}})
    world.until_ready()
    bind(world, name, "2Gi")
    former = world.get("StatefulSet", "demo-ollama")["metadata"]["uid"]
    world.change({"spec": {"ollama": {"storage": {"size": "3Gi"}}}})
    wait(lambda: size_of(world.get("PersistentVolumeClaim", CLAIM)) == "3Gi")

    def is_orphaned() -> bool:
        meta = world.get("StatefulSet", "demo-ollama")["metadata"]
        return bool(meta.get("finalizers") == ["orphan"] and meta["uid"] == former)

    wait(is_orphaned)
    # What the garbage collector does once it has taken the owner off pods and claims.
    world.api.patch("StatefulSet", world.ns, "demo-ollama", {"metadata": {"finalizers": None}})
    wait(lambda: world.get("StatefulSet", "demo-ollama")["metadata"]["uid"] != former)
    wait(lambda: size_of(template(world)) == "3Gi")
    world.play_kubelet()
    world.until_phase("Ready")
    world.look_again()  # an event may still have been on its way
    before = world.writes()
    world.look_again()
    assert world.writes() == before


def test_where_it_does_not_the_reason_is_told_and_the_rest_is_done(
    world: World, wait: Callable[..., Any], storage_class: Callable[[bool], str]
) -> None:
    name = storage_class(False)
    world.create({"ollama": {"storage": {"size": "2Gi", "className": name}}})
    world.until_ready()
    bind(world, name, "2Gi")
    former = world.get("StatefulSet", "demo-ollama")["metadata"]["uid"]
    world.change({"spec": {"ollama": {"storage": {"size": "3Gi"}, "keepAlive": "7m"}}})
    world.until_phase("Failed")
    stalled = world.condition("Stalled")
    assert stalled["reason"] == "VolumeExpansionRefused"
    assert f"{CLAIM} stays at 2Gi instead of 3Gi (storage class {name})" in stalled["message"]
    assert "must support resize" in stalled["message"], "in the API server's own words"
    assert "spec.ollama.storage.size" in stalled["message"]
    found = world.get("StatefulSet", "demo-ollama")
    assert found["metadata"]["uid"] == former
    assert size_of(template(world)) == "2Gi"
    assert "7m" in str(found["spec"]["template"])
    world.look_again()  # an event may still have been on its way
    before = world.writes()
    world.look_again()
    assert world.writes() == before, "what was refused is not asked for again and again"
    # The size cannot be lowered; back to what the volume has it comes by leaving it out.
    world.change({"spec": {"ollama": {"storage": {"size": None}}}})
    world.play_kubelet()
    world.until_phase("Ready")


def test_an_adopted_volume_stays_what_it_is(
    world: World, wait: Callable[..., Any], storage_class: Callable[[bool], str]
) -> None:
    name = storage_class(True)
    world.create({"ollama": {"storage": {"size": "2Gi"}}})
    world.until_ready()
    bind(world, name, "8Gi")
    world.api.delete("MetisRAG", world.ns, "demo")
    for kind, child in world.children():
        world.api.delete(kind, world.ns, child["metadata"]["name"])
    world.create({"ollama": {"storage": {"size": "2Gi"}}})
    world.until_ready()
    assert size_of(world.get("PersistentVolumeClaim", CLAIM)) == "8Gi"
    world.change({"spec": {"ollama": {"storage": {"className": "other"}}}})
    world.until_phase("Failed")
    assert f"has the storage class {name}" in world.condition("Stalled")["message"]
