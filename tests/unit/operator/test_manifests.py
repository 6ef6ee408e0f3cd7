from __future__ import annotations

from typing import Any

import pytest
from metis_operator.core import manifests, names
from metis_operator.core.objects import CONFIG_MAP, DEPLOYMENT, Owner
from metis_operator.errors import ManifestError


def config_map(name: str = "demo-app", **meta: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {names.LABEL_MANAGED_BY: "Helm"}, **meta},
        "data": {"a": "b"},
    }


def test_objects_get_their_owner_manager_and_digest(owner: Owner) -> None:
    rendered = config_map()
    ((key, obj),) = manifests.build([rendered], owner).items()
    assert key == (CONFIG_MAP, "team", "demo-app")
    assert obj["metadata"]["namespace"] == "team"
    assert obj["metadata"]["labels"][names.LABEL_MANAGED_BY] == names.FIELD_MANAGER
    assert obj["metadata"]["ownerReferences"] == [
        {
            "apiVersion": "metisrag.dev/v1alpha1",
            "kind": "MetisRAG",
            "name": "demo",
            "uid": "owner-uid",
            "controller": True,
        }
    ]
    assert len(manifests.digest_of(obj)) == 16
    assert rendered == config_map(), "the rendering is shared and must not change"


def test_a_digest_tells_contents_apart_and_nothing_else(owner: Owner) -> None:
    one, two = config_map(), config_map()
    two["data"] = {"a": "c"}
    turned = dict(reversed(list(config_map().items())))
    digests = [
        manifests.digest_of(next(iter(manifests.build([d], owner).values())))
        for d in (one, two, turned)
    ]
    assert digests[0] == digests[2] != digests[1]


def test_hooks_and_empty_documents_are_left_out(owner: Owner) -> None:
    hook = config_map("job", annotations={names.ANNOTATION_HOOK: "pre-install"})
    assert manifests.build([hook, None, "text"], owner) == {}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}, "Secret/x"),
        ({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "x"}}, "CronJob/x"),
        (config_map(namespace="other"), "stays in one namespace"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}, "without a name"),
    ],
)
def test_what_the_operator_does_not_manage_is_refused(
    owner: Owner, document: dict[str, Any], said: str
) -> None:
    with pytest.raises(ManifestError, match=said):
        manifests.build([document], owner)


def test_an_object_rendered_twice_is_refused(owner: Owner) -> None:
    with pytest.raises(ManifestError, match="twice"):
        manifests.build([config_map(), config_map()], owner)


def test_secrets_that_pods_cannot_start_without() -> None:
    volumes = [
        {"name": "a", "secret": {"secretName": "one"}},
        {"name": "b", "secret": {"secretName": "may-be-absent", "optional": True}},
        {"name": "c", "projected": {"sources": [{"secret": {"name": "two"}}, {"configMap": {}}]}},
        {"name": "d", "emptyDir": {}},
    ]
    workload = {"spec": {"template": {"spec": {"volumes": volumes}}}}
    assert manifests.mounted_secrets([workload, {"kind": "Service"}]) == {"one", "two"}


def test_an_environment_variable_is_found_in_any_container() -> None:
    containers = [{"name": "x", "env": [{"name": "M", "value": "small"}, {"name": "N"}]}]
    workload = {"spec": {"template": {"spec": {"containers": containers}}}}
    assert manifests.environment(workload, "M") == "small"
    assert manifests.environment(workload, "N") == ""


def test_a_component_is_found_by_label_and_kind(owner: Owner) -> None:
    rendered = [
        config_map(labels={names.LABEL_COMPONENT: "app"}),
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "d", "labels": {names.LABEL_COMPONENT: "app"}},
            "spec": {},
        },
    ]
    found = manifests.find_component(manifests.build(rendered, owner), "app", DEPLOYMENT)
    assert found is not None
    assert found["metadata"]["name"] == "d"


def test_the_certificate_of_a_pod_and_of_a_workload_is_known() -> None:
    volumes = [{"name": "db", "secret": {"secretName": "x"}}]
    tls = {"name": "tls", "secret": {"secretName": "demo-tls"}}
    assert manifests.certificate_secret({"spec": {"volumes": [*volumes, tls]}}) == "demo-tls"
    workload = {"spec": {"template": {"spec": {"volumes": [tls]}}}}
    assert manifests.certificate_secret(workload) == "demo-tls"
    assert manifests.certificate_secret({"spec": {"volumes": volumes}}) == ""
