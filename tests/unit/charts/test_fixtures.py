"""Every mode of use lints, renders to valid objects, and holds no secret and no loose pod."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[3]
NEWEST = kubernetes_validate.latest_version()
VERSIONS = ("1.30", NEWEST)  # the oldest supported, the newest known
BETWEEN = tuple(f"1.{minor}" for minor in range(31, int(NEWEST.split(".")[1])))
# Kinds that are not Kubernetes' own: MetisRAG's definition is ours, the others' are not at hand.
OTHERS = {"MetisRAG", "CustomResourceDefinition", "HTTPRoute", "Certificate"}
_validated: set[tuple[str, str]] = set()


@pytest.fixture(scope="module", autouse=True)
def schemas_read_once():
    """kubernetes-validate reads a megabyte of definitions for each object; here once a version."""
    with pytest.MonkeyPatch.context() as patch:
        read = functools.cache(kubernetes_validate.utils.schema_contents)
        patch.setattr(kubernetes_validate.utils, "schema_contents", read)
        yield


def test_it_lints(helm, fixture_values):
    helm("lint", ".", "--strict", "-f", "-", stdin=json.dumps(fixture_values))
    if "stack" in fixture_values:
        values = json.dumps(fixture_values["stack"])
        helm("lint", "charts/stack", "--strict", "-f", "-", stdin=values)


def _validate(all_rendered, versions):
    for rendered in all_rendered:
        for manifest in rendered.manifests:
            if manifest["kind"] in OTHERS:
                continue
            text = json.dumps(manifest, sort_keys=True)
            for version in versions:
                if (text, version) not in _validated:
                    kubernetes_validate.validate(manifest, version, strict=True)
                _validated.add((text, version))


def test_every_object_is_valid_in_the_oldest_and_the_newest_version(all_rendered):
    _validate(all_rendered, VERSIONS)


@pytest.mark.full
def test_every_object_is_valid_in_the_versions_between(all_rendered):
    _validate(all_rendered, BETWEEN)


@pytest.fixture(scope="module")
def definition():
    """Checks against the schema of a MetisRAG."""
    path = ROOT / "charts/operator/crds/metisrags.metisrag.dev.yaml"
    (version,) = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)["spec"]["versions"]
    return jsonschema.Draft202012Validator(version["schema"]["openAPIV3Schema"])


def test_every_metisrag_is_valid_by_its_own_definition(all_rendered, definition):
    for rendered in all_rendered:
        for manifest in rendered.kinds("MetisRAG"):
            definition.validate(manifest)


def test_no_object_occurs_twice(all_rendered):
    for rendered in all_rendered:
        names = [(m["kind"], m["metadata"]["name"]) for m in rendered.manifests]
        assert len(names) == len(set(names))


def test_no_secret_is_rendered_nor_put_into_an_environment(all_rendered):
    for rendered in all_rendered:
        assert not rendered.kinds("Secret")
        for name, template in rendered.pods():
            for container in _containers(template):
                assert "envFrom" not in container, name
                for variable in container.get("env", []):
                    source = variable.get("valueFrom", {"fieldRef": {}})
                    assert set(source) == {"fieldRef"}, f"{name}: {variable}"
                    if re.search("(?i)password|secret|key|token", variable["name"]):
                        assert variable["name"].endswith(("_FILE", "_DIR")), f"{name}: {variable}"


def test_every_pod_meets_the_restricted_standard(all_rendered):
    for rendered in all_rendered:
        for name, template in rendered.pods():
            problems = list(_violations(template))
            assert not problems, f"{name}: {problems}"


def test_every_volume_is_used_and_bounded(all_rendered):
    for rendered in all_rendered:
        for name, template in rendered.pods():
            volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
            mounted = {
                mount["name"]
                for container in _containers(template)
                for mount in container["volumeMounts"]
            }
            assert set(volumes) <= mounted, name
            assert mounted - set(volumes) <= {"data", "models"}, name
            for volume in volumes.values():
                assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""}), f"{name}: {volume}"


def test_no_volume_is_mounted_by_subpath(all_rendered):
    for rendered in all_rendered:
        for name, template in rendered.pods():
            for container in _containers(template):
                assert all("subPath" not in mount for mount in container["volumeMounts"]), name


def test_every_container_has_requests_and_limits(all_rendered):
    """So that a ResourceQuota admits it and no LimitRange decides for it."""
    for rendered in all_rendered:
        for name, template in rendered.pods():
            for container in _containers(template):
                if container["name"] in ("wait-for-approval",):
                    continue  # the user's own
                requests, limits = (container["resources"][k] for k in ("requests", "limits"))
                assert {"cpu", "memory"} <= set(requests), f"{name}: {container['name']}"
                wanted = {"memory"} if container["name"] == "ollama" else {"cpu", "memory"}
                assert wanted <= set(limits), f"{name}: {container['name']}"


def test_only_what_speaks_to_the_api_server_gets_a_token(all_rendered):
    for rendered in all_rendered:
        for name, template in rendered.pods():
            wants = name.endswith(("-operator", "-credentials", "-rotator"))
            assert template["spec"]["automountServiceAccountToken"] is wants, name


def test_selectors_select_their_own_pods_alone(all_rendered):
    for rendered in all_rendered:
        pods = {name: template["metadata"]["labels"] for name, template in rendered.pods()}
        for manifest in rendered.kinds("Service") + rendered.kinds("NetworkPolicy"):
            spec = manifest["spec"]
            selector = spec.get("selector") or spec["podSelector"]["matchLabels"]
            chosen = [name for name, labels in pods.items() if selector.items() <= labels.items()]
            if selector.get("app.kubernetes.io/component") in ("rotation", "test", "pull"):
                # Their pods are those of Jobs that come and go, each with a name of its own.
                assert all(name.split()[0] in ("Job", "Pod") for name in chosen), chosen
                continue
            own = manifest["metadata"]["name"]
            if manifest["kind"] == "Service" and spec.get("clusterIP") == "None":
                own = own.removesuffix("-pods").removesuffix("-ready")
            assert [name.split()[1] for name in chosen] == [own]


def _containers(template):
    spec = template["spec"]
    return spec.get("initContainers", []) + spec["containers"]


def _violations(template):
    """Breaches of the Pod Security Standard "restricted", version 1.34."""
    spec = template["spec"]
    security = spec["securityContext"]
    if any(spec.get(field) for field in ("hostNetwork", "hostPID", "hostIPC")):
        yield "host namespaces"
    if not security.get("runAsNonRoot") or security.get("runAsUser", 1) == 0:
        yield "may run as root"
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "seccomp"
    allowed = {"configMap", "emptyDir", "secret", "projected", "persistentVolumeClaim"}
    for volume in spec["volumes"]:
        if not (set(volume) - {"name"}) <= allowed:
            yield f"volume {volume}"
    for container in _containers(template):
        own = container["securityContext"]
        name = container["name"]
        if own.get("privileged") or own.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: privileges"
        if own.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name}: capabilities"
        if not own.get("readOnlyRootFilesystem"):
            yield f"{name}: writable root filesystem"
        if own.get("runAsUser", 1) == 0 or own.get("runAsNonRoot") is False:
            yield f"{name}: root"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{name}: host port"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"securityContext": {}}, "may run as root"),
        ({"hostNetwork": True}, "host namespaces"),
        ({"volumes": [{"name": "x", "hostPath": {}}]}, "volume"),
    ],
)
def test_the_check_of_the_standard_sees_a_breach(stack, change, problem):
    (_, template) = stack().pods()[0]
    broken = template | {"spec": template["spec"] | change}
    assert any(problem in found for found in _violations(broken))
