"""What stands in front of the app and around its pods: made, kept, and taken away again."""

from __future__ import annotations

import pytest

from tests.component.operator.harness import PATHS, eventually
from tests.component.operator.world import World
from tests.foreign import definition

ALL = {
    "autoscaling": {"enabled": True, "cpu": "1500m"},
    "podDisruptionBudget": {"enabled": True},
    "ingress": {"enabled": True, "host": "rag.example.com", "tlsSecret": "rag-tls"},
}
KINDS = {
    "HorizontalPodAutoscaler": "apis/autoscaling/v2/namespaces/{ns}/horizontalpodautoscalers",
    "PodDisruptionBudget": "apis/policy/v1/namespaces/{ns}/poddisruptionbudgets",
    "Ingress": "apis/networking.k8s.io/v1/namespaces/{ns}/ingresses",
}
ROUTES = "apis/gateway.networking.k8s.io/v1/namespaces/{ns}/httproutes"
CRDS = "apis/apiextensions.k8s.io/v1/customresourcedefinitions"
ROUTE_CRD = definition("gateway.networking.k8s.io", "HTTPRoute", "httproutes")


@pytest.fixture(autouse=True)
def paths(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, path in (KINDS | {"HTTPRoute": ROUTES, "CustomResourceDefinition": CRDS}).items():
        monkeypatch.setitem(PATHS, kind, path)


def test_what_is_switched_on_is_made_and_what_is_switched_off_goes(world: World) -> None:
    world.create({"app": ALL})
    resource = world.until_ready()
    assert resource["status"]["url"] == "https://rag.example.com"
    for kind in KINDS:
        assert world.get(kind, "demo-app")["metadata"]["ownerReferences"][0]["name"] == "demo"
    assert "replicas" not in _owned(world.get("Deployment", "demo-app"))

    before = {kind: _version(world, kind) for kind in KINDS}
    world.look_again()
    assert {kind: _version(world, kind) for kind in KINDS} == before, "nothing had changed"

    world.api.delete("Ingress", world.ns, "demo-app")
    eventually(lambda: world.api.get("Ingress", world.ns, "demo-app"), what="the Ingress is back")

    world.change({"spec": {"app": dict.fromkeys(ALL)}})
    for kind in KINDS:
        eventually(
            lambda kind=kind: world.api.get(kind, world.ns, "demo-app") is None,
            what=f"{kind} is gone",
        )


def test_a_route_needs_the_gateway_api_and_is_made_once_it_is_there(world: World) -> None:
    world.create({"app": {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}}})

    def told() -> bool:
        stalled = world.condition("Stalled")
        return (
            stalled.get("reason") == "ApiMissing"
            and "Install what brings gateway.networking.k8s.io" in stalled["message"]
        )

    eventually(told, what="the missing API is named")
    world.api.create("CustomResourceDefinition", "", ROUTE_CRD)
    try:

        def made() -> bool:
            world.look_again()
            return world.api.get("HTTPRoute", world.ns, "demo-app") is not None

        eventually(made, timeout=40, what="the route is made")
        eventually(lambda: world.condition("Stalled").get("status") == "False")
    finally:
        world.api.delete("CustomResourceDefinition", "", ROUTE_CRD["metadata"]["name"])


def _version(world: World, kind: str) -> str:
    return str(world.get(kind, "demo-app")["metadata"]["resourceVersion"])


def _owned(deployment: dict) -> dict:
    return next(
        entry["fieldsV1"]["f:spec"]
        for entry in deployment["metadata"]["managedFields"]
        if entry["manager"] == "metis-operator" and "f:spec" in entry["fieldsV1"]
    )
