"""What linters of Kubernetes objects ask for, over every mode of use; see docs/dependencies.md."""

from __future__ import annotations

import re
from typing import Any

Manifest = dict[str, Any]
# Jobs and pods that come and go have nobody to ask them whether they are alive.
SHORT_LIVED = ("Job", "CronJob", "Pod")


def _containers(template: Manifest) -> list[Manifest]:
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def test_images_have_a_version(all_rendered: Any) -> None:
    for rendered in all_rendered:
        for name, template in rendered.pods():
            for container in _containers(template):
                image = container["image"]
                assert re.search(r"(:[^/:@]+|@sha256:[0-9a-f]{64})$", image), f"{name}: {image}"
                assert not image.endswith(":latest"), f"{name}: {image}"


def test_no_variable_port_or_volume_is_named_twice(all_rendered: Any) -> None:
    for rendered in all_rendered:
        for name, template in rendered.pods():
            lists = [template["spec"].get("volumes", [])]
            for container in _containers(template):
                lists += [container.get("env", []), container.get("ports", [])]
                paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
                assert len(paths) == len(set(paths)), f"{name}: {paths}"
            for entries in lists:
                names = [entry["name"] for entry in entries]
                assert len(names) == len(set(names)), f"{name}: {names}"


def test_servers_have_probes_that_name_a_port_of_theirs(all_rendered: Any) -> None:
    for rendered in all_rendered:
        for name, template in rendered.pods():
            if name.startswith(SHORT_LIVED):
                continue
            container = template["spec"]["containers"][0]
            ports = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert probe in container, f"{name}: no {probe}"
                assert container[probe].get("httpGet", {}).get("port", "") in {"", *ports}, name


def test_services_lead_to_a_port_of_their_pods(all_rendered: Any) -> None:
    for rendered in all_rendered:
        for service in rendered.kinds("Service"):
            spec = service["spec"]
            targets = {port["targetPort"] for port in spec["ports"]}
            (template,) = (
                template
                for _, template in rendered.pods()
                if spec["selector"].items() <= template["metadata"]["labels"].items()
            )
            named = {
                port["name"]
                for container in template["spec"]["containers"]
                for port in container.get("ports", [])
            }
            assert targets <= named, service["metadata"]["name"]


def test_what_is_referred_to_is_there(all_rendered: Any) -> None:
    """Accounts, config maps and the targets of autoscalers; what the user brings is not ours."""
    for rendered in all_rendered:
        there = {(m["kind"], m["metadata"]["name"]) for m in rendered.manifests}

        def ours(kind: str, name: str, there: set[tuple[str, str]] = there) -> bool:
            return (kind, name) in there or not name.startswith(("demo", "on-gpu"))

        for name, template in rendered.pods():
            account = template["spec"].get("serviceAccountName", "default")
            assert ours("ServiceAccount", account), f"{name}: {account}"
            for volume in template["spec"].get("volumes", []):
                if "configMap" in volume:
                    assert ours("ConfigMap", volume["configMap"]["name"]), f"{name}: {volume}"
        for scaler in rendered.kinds("HorizontalPodAutoscaler"):
            target = scaler["spec"]["scaleTargetRef"]
            assert (target["kind"], target["name"]) in there
        for binding in rendered.kinds("RoleBinding") + rendered.kinds("ClusterRoleBinding"):
            assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) in there
            for subject in binding["subjects"]:
                assert (subject["kind"], subject["name"]) in there


def test_roles_grant_no_wildcards_and_nothing_that_grants_more(all_rendered: Any) -> None:
    for rendered in all_rendered:
        for role in rendered.kinds("Role") + rendered.kinds("ClusterRole"):
            for rule in role["rules"]:
                words = {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}
                assert not words & {"*", "escalate", "bind", "impersonate"}, role["metadata"][
                    "name"
                ]
                assert not {"pods/exec", "pods/attach"} & set(rule["resources"])


def test_stateful_sets_are_done_on_purpose(all_rendered: Any) -> None:
    for rendered in all_rendered:
        for one in rendered.kinds("StatefulSet"):
            spec = one["spec"]
            assert spec["podManagementPolicy"] == "Parallel"
            assert spec["updateStrategy"] == {"type": "RollingUpdate"}
            assert spec["persistentVolumeClaimRetentionPolicy"]["whenScaled"] == "Retain"
            assert spec["serviceName"] in {s["metadata"]["name"] for s in rendered.kinds("Service")}
            assert spec["template"]["spec"]["terminationGracePeriodSeconds"] >= 30
