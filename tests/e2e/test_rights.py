"""The operator's role against the audit log of the whole session: no verb unused, none refused.

What no other test has the operator do, an instance that never runs has it do here.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from metis_operator.core import names
from metis_operator.core.objects import RENDERED

from hack import audit, tools
from hack import cluster as kind
from tests.foreign import definition
from tests.rights import granted, refused, used

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "operator"
NAMESPACE = "rights"
CLASS = "test-growing"
DEFINITION = "metisrags.metisrag.dev"
GROWN = "3Gi"

# Kinds that other products bring. What matters is that the API server serves them.
BROUGHT = (
    ("gateway.networking.k8s.io", "HTTPRoute", "httproutes"),
    ("cert-manager.io", "Certificate", "certificates"),
)
NOWHERE = {"nodeSelector": {"test": "nowhere"}}
SPEC: dict[str, Any] = {
    "app": {
        **NOWHERE,
        "autoscaling": {"enabled": True},
        "podDisruptionBudget": {"enabled": True},
        "ingress": {"enabled": True, "host": "rights.example"},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "none"}]},
    },
    "tls": {"enabled": True, "certManager": {"issuer": {"name": "none"}}},
    "mem0": NOWHERE,
    "ollama": {**NOWHERE, "preload": {"image": ""}, "storage": {"className": CLASS, "size": "2Gi"}},
    "metisPostgres": {**NOWHERE, "storage": {"className": CLASS, "size": "2Gi"}},
    "mem0Postgres": {**NOWHERE, "storage": {"className": CLASS, "size": "2Gi"}},
}


@pytest.fixture
def idle(cluster: Any, umbrella: str) -> Iterator[str]:
    """An instance with all that is optional, whose pods find no node; its volumes may grow."""
    cluster.namespace(NAMESPACE)
    crds = [definition(*what) for what in BROUGHT]
    theirs = [f"crd/{crd['metadata']['name']}" for crd in crds]
    cluster.apply(*crds, storage_class(), *(volume(i) for i in range(3)))
    cluster.kubectl("wait", "--for=condition=Established", *theirs, "--timeout=60s")
    cluster.metisrag(NAMESPACE, "all", SPEC)
    yield NAMESPACE
    cluster.kubectl("delete", "metisrag", "all", "-n", NAMESPACE, "--ignore-not-found", "--wait")
    cluster.drop_namespace(NAMESPACE)
    cluster.kubectl("delete", *theirs, "--ignore-not-found", "--wait")
    cluster.kubectl("delete", "pv", "-l", f"test={CLASS}", "--ignore-not-found", "--wait")
    cluster.kubectl("delete", "storageclass", CLASS, "--ignore-not-found")


def storage_class() -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS},
        "provisioner": "kubernetes.io/no-provisioner",
        "allowVolumeExpansion": True,
    }


def volume(number: int) -> dict[str, Any]:
    """Bound at once, and never mounted."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{CLASS}-{number}", "labels": {"test": CLASS}},
        "spec": {
            "storageClassName": CLASS,
            "capacity": {"storage": "2Gi"},
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": f"/tmp/{CLASS}-{number}"},  # noqa: S108  never mounted
        },
    }


def leftover(resource: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """A copy of a child, as an operator of another version may have made it and this one does not.

    It is pruned: whatever kind it is of, for there is no other way to have all of them go.
    """
    meta = found["metadata"]
    owner = {"apiVersion": names.API_VERSION, "kind": names.KIND, "controller": True}
    owner |= {key: resource["metadata"][key] for key in ("name", "uid")}
    kept = {k: v for k, v in found.items() if k not in ("metadata", "status")}
    if "clusterIP" in kept.get("spec", {}):
        kept["spec"] = {k: v for k, v in kept["spec"].items() if not k.startswith("clusterIP")}
    if found["kind"] == "Job":  # The API server gives each its own selector and labels.
        template = {**kept["spec"]["template"], "metadata": {}}
        kept["spec"] = {k: v for k, v in kept["spec"].items() if k != "selector"}
        kept["spec"]["template"] = template
    return {
        **kept,
        "metadata": {
            "name": f"{meta['name']}-former",
            "namespace": NAMESPACE,
            "labels": meta["labels"],
            "annotations": {names.ANNOTATION_DIGEST: "0123456789abcdef"},
            "ownerReferences": [owner],
        },
    }


@pytest.mark.full
def test_everything_there_may_be_comes_grows_and_goes(cluster: Any, idle: str) -> None:
    kinds = [f"{k.plural}.{k.group}" if k.group else k.plural for k in RENDERED]
    selector = ("-n", idle, "-l", f"{names.LABEL_INSTANCE}=all")

    def of_each_kind() -> list[dict[str, Any]] | None:
        found = [cluster.items(k, *selector) for k in kinds]
        return [items[0] for items in found] if all(found) else None

    def told() -> str:
        return (
            f"{cluster.status(idle, 'all')}\n{cluster.kubectl('get', ','.join(kinds), '-n', idle)}"
        )

    children = cluster.wait_for(of_each_kind, 60, told)
    resource = cluster.get("metisrag", "all", "-n", idle)
    cluster.apply(*(leftover(resource, child) for child in children))

    def names_of() -> set[str]:
        return {o["metadata"]["name"] for k in kinds for o in cluster.items(k, *selector)}

    cluster.wait_for(lambda: not any(n.endswith("-former") for n in names_of()), 60, told)
    assert {child["metadata"]["name"] for child in children} <= names_of()

    claim = "data-all-metis-postgres-0"

    def is_bound() -> bool:
        found = cluster.get("pvc", claim, "-n", idle)
        return bool(found and found["status"]["phase"] == "Bound")

    cluster.wait_for(is_bound, 60, lambda: cluster.kubectl("describe", "pvc", "-n", idle))
    patch = json.dumps({"spec": {"metisPostgres": {"storage": {"size": GROWN}}}})
    cluster.kubectl("patch", "metisrag", "all", "-n", idle, "--type=merge", "-p", patch)

    def asks() -> bool:
        spec = cluster.get("pvc", claim, "-n", idle)["spec"]
        return bool(spec["resources"]["requests"]["storage"] == GROWN)

    cluster.wait_for(asks, 60, told)


@pytest.mark.full
@pytest.mark.last(2)
def test_the_operator_brings_its_definition_and_brings_it_up_to_date(
    cluster: Any, umbrella: str
) -> None:
    """Where Helm did not: alone in its namespace, and the cluster without the definition."""
    cluster.helm("uninstall", "metis", "-n", umbrella, "--ignore-not-found", "--wait")
    cluster.kubectl("delete", "crd", DEFINITION, "--ignore-not-found", "--wait", timeout=60)
    values = yaml.safe_dump({"image": cluster.operator_image, "replicas": 1})
    cluster.helm(
        "install", "metis", str(CHART), "-n", umbrella, "--skip-crds", "-f", "-", stdin=values
    )

    def short_names() -> list[str]:
        found = cluster.get("crd", DEFINITION)
        return found["spec"]["names"]["shortNames"] if found else []

    def is_ours() -> bool:
        return short_names() == ["mrag"]

    cluster.wait_for(is_ours, 90, lambda: "the operator does not bring its definition")
    cluster.kubectl("rollout", "status", "deployment/metis-operator", "-n", umbrella, timeout=120)
    old = {"metadata": {"annotations": {names.ANNOTATION_CRD_VERSION: None}}}
    old |= {"spec": {"names": {"shortNames": ["old"]}}}
    cluster.kubectl("patch", "crd", DEFINITION, "--type=merge", "-p", json.dumps(old))
    cluster.kubectl("rollout", "restart", "deployment/metis-operator", "-n", umbrella)
    cluster.wait_for(is_ours, 90, lambda: f"still {short_names()}")
    cluster.helm("uninstall", "metis", "-n", umbrella, "--wait")
    cluster.kubectl("delete", "crd", DEFINITION, "--wait", timeout=60)


@pytest.mark.full
@pytest.mark.last(2)
def test_the_role_grants_what_the_operator_uses_and_no_more(
    cluster: Any, request: pytest.FixtureRequest
) -> None:
    """Of all that the tests of this session had the operators do."""
    entries = operator_calls(cluster)
    assert entries, "the API server wrote nothing down"
    chart = [d for user in {e["user"]["username"] for e in entries} for d in roles_of(user)]
    outside = sorted(refused(entries, chart))
    assert outside == [], "asked for, and not in charts/operator/templates/rbac.yaml"
    if is_whole(request):
        unused = sorted(map(str, granted(chart) - used(entries)))
        assert unused == [], (
            "granted by charts/operator/templates/rbac.yaml, and used by no end-to-end test: take "
            "it out, or have a test use it"
        )


def operator_calls(cluster: Any) -> list[dict[str, Any]]:
    """Every request of an operator's account since the session began."""
    node = kind.named(kind.TESTS).node
    pattern = '"username":"system:serviceaccount:[^"]*-operator"'
    lines = subprocess.run(
        ["docker", "exec", node, "sh", "-c", f"grep -h '{pattern}' {audit.FILES} || true"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    entries = [json.loads(line) for line in lines]
    return [e for e in entries if e["requestReceivedTimestamp"] >= cluster.began]


def roles_of(user: str) -> list[dict[str, Any]]:
    """What the operator's chart grants the account, were it installed as that says."""
    namespace, account = user.removeprefix("system:serviceaccount:").split(":")
    release = account.removesuffix("-operator")
    command = [str(tools.helm()), "template", release, str(CHART), "-n", namespace]
    rendered = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [d for d in yaml.safe_load_all(rendered) if d]


def is_whole(request: pytest.FixtureRequest) -> bool:
    """Whether the session was asked for this whole folder."""
    here = request.path.parent
    asked = [Path(str(a).partition("::")[0]).resolve() for a in request.config.args]
    options = request.config.option
    return bool({here, *here.parents} & set(asked)) and not (options.keyword or options.lf)
