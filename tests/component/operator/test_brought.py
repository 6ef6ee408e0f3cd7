"""Parts that are brought from outside: nothing of theirs is made, kept, told of or rotated."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.component.operator.harness import PATHS, eventually
from tests.component.operator.world import World
from tests.foreign import definition

# As CloudNativePG makes them for a Cluster "pg" (its documentation, "Connecting from an
# application" and "Certificates"); the operator of that name is not here.
CLUSTER = {
    "pg-app": {
        "username": "app", "password": "p", "dbname": "app", "host": "pg-rw", "port": "5432",
        "user": "app", "pgpass": "pg-rw:5432:app:app:p", "uri": "postgresql://app:p@pg-rw:5432/app",
    },
    "pg-ca": {"ca.crt": "certificate", "ca.key": "key"},
}  # fmt: skip
BROUGHT = {
    "metisPostgres": {"cloudNativePG": {"cluster": "pg"}},
    "mem0": {"external": {"url": "http://shared-mem0.memory:8050"}, "existingSecret": "shared"},
    "ollama": {"external": {"url": "http://ollama.models:11434"}},
}
CERTIFICATES = "apis/cert-manager.io/v1/namespaces/{ns}/certificates"
CRDS = "apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CERTIFICATE_CRD = definition("cert-manager.io", "Certificate", "certificates")


@pytest.fixture(autouse=True)
def paths(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, path in {"Certificate": CERTIFICATES, "CustomResourceDefinition": CRDS}.items():
        monkeypatch.setitem(PATHS, kind, path)


def bring(world: World, name: str, entries: dict[str, str]) -> None:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in entries.items()}
    world.api.create("Secret", world.ns, {"metadata": {"name": name}, "data": data})


def names(world: World, kind: str) -> set[str]:
    return {o["metadata"]["name"] for o in world.api.all(kind, world.ns)}


def rotated(world: World) -> list[str]:
    return [r["component"] for r in world.resource()["status"].get("rotation", [])]


def test_an_instance_may_be_the_app_alone(world: World) -> None:
    for name, entries in CLUSTER.items():
        bring(world, name, entries)
    world.create(BROUGHT)

    def told() -> bool:
        said = world.component("app")
        return said.get("reason") == "SecretMissing" and "shared" in said["message"]

    eventually(told, what="the Secret that is not there is named")
    bring(world, "shared", {"api-key": "mk_0123456789abcdef0123"})
    world.play_kubelet()
    resource = world.until_phase("Ready")
    assert [c["name"] for c in resource["status"]["components"]] == ["app"]
    assert names(world, "Deployment") == {"demo-app"}
    assert names(world, "StatefulSet") == set()
    assert names(world, "Service") == {"demo-app"}
    assert names(world, "Secret") == {"demo-auth", "shared", *CLUSTER}
    assert rotated(world) == []


def test_a_made_part_goes_when_one_is_brought_and_its_credentials_rest(world: World) -> None:
    world.create()
    world.until_ready()
    eventually(lambda: set(rotated(world)) == {"mem0-key", "mem0-db", "metis-db"})
    kept = world.get("Secret", "demo-metis-db")
    for name, entries in CLUSTER.items():
        bring(world, name, entries)
    world.change({"spec": {"metisPostgres": BROUGHT["metisPostgres"]}})
    world.until_ready()
    eventually(lambda: "demo-metis-postgres" not in names(world, "StatefulSet"))
    for kind in ("Service", "ConfigMap", "NetworkPolicy", "ServiceAccount"):
        eventually(lambda kind=kind: "demo-metis-postgres" not in names(world, kind), what=kind)
    # The Secret opens what is on the kept volume: it stays, and nobody touches it any more.
    world.change({"metadata": {"annotations": {"rotate.metisrag.dev/metis-db": "now"}}})
    world.look_again()
    assert world.get("Secret", "demo-metis-db")["data"] == kept["data"]
    assert set(rotated(world)) == {"mem0-key", "mem0-db"}
    world.change({"metadata": {"annotations": {"rotate.metisrag.dev/metis-db": None}}})
    world.change({"spec": {"metisPostgres": None}})
    world.until_ready()
    assert world.get("Secret", "demo-metis-db")["data"] == kept["data"]


def test_cert_manager_is_used_once_it_is_there(world: World) -> None:
    world.create({"tls": {"enabled": True, "certManager": {"issuer": {"name": "ca"}}}})

    def told() -> bool:
        stalled = world.condition("Stalled")
        return (
            stalled.get("reason") == "ApiMissing"
            and "Install what brings cert-manager.io" in stalled["message"]
        )

    eventually(told, what="the missing API is named")
    world.api.create("CustomResourceDefinition", "", CERTIFICATE_CRD)
    try:

        def made() -> bool:
            world.look_again()
            return len(names(world, "Certificate")) == 3

        eventually(made, timeout=40, what="the certificates are asked for")
        eventually(lambda: world.condition("Stalled").get("status") == "False")
        assert "demo-mem0-tls" in world.component("mem0")["message"]
        for name in ("mem0", "metis-postgres", "mem0-postgres"):
            bring(world, f"demo-{name}-tls", {"tls.crt": "c", "tls.key": "k", "ca.crt": "a"})
        world.play_kubelet()
        world.until_phase("Ready")
    finally:
        world.api.delete("CustomResourceDefinition", "", CERTIFICATE_CRD["metadata"]["name"])


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"metisPostgres": {"external": {"url": "postgresql://ann:hush@db/metis"}}},
            "may hold no login",
        ),
        (
            {"mem0Postgres": {"external": {"url": "postgresql://db/mem0?sslmode=disable"}}},
            "without parameters",
        ),
        (
            {
                "metisPostgres": {
                    "external": {"url": "postgresql://db/metis"},
                    "cloudNativePG": {"cluster": "pg"},
                }
            },
            "are both set",
        ),
        (
            {"ollama": {"external": {"url": "http://ollama:11434", "caSecret": "ca"}}},
            "begins with https://",
        ),
        (
            {"models": {"openai": {"chat": {"url": "http://key@vllm/v1"}}}},
            "put the key into a Secret",
        ),
    ],
)
def test_the_api_server_refuses_what_it_can_see(
    world: World, spec: dict[str, Any], words: str
) -> None:
    resource = {
        "apiVersion": "metisrag.dev/v1alpha1",
        "kind": "MetisRAG",
        "metadata": {"name": "demo"},
        "spec": spec,
    }
    answer = world.api.try_create("MetisRAG", world.ns, resource)
    assert answer.status_code == 422
    assert words in answer.text
