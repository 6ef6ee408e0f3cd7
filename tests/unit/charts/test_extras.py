"""What people add to the pods and in front of the Service arrives where Kubernetes reads it."""

from __future__ import annotations

import pytest
import yaml


@pytest.fixture
def mode(stack, root):
    def render(name):
        values = yaml.safe_load((root / f"tests/fixtures/values/{name}.yaml").read_text())["stack"]
        return stack({key: value for key, value in values.items() if key != "enabled"})

    return render


@pytest.fixture
def published(mode):
    return mode("solo-published")


def _pod(rendered, component, kind="Deployment"):
    return rendered.one(kind, f"demo-{component}")["spec"]["template"]["spec"]


def test_the_autoscaler_has_the_deployment_to_itself(published):
    for component, least in (("app", 3), ("mem0", 2)):
        assert "replicas" not in published.one("Deployment", f"demo-{component}")["spec"]
        scaler = published.one("HorizontalPodAutoscaler", f"demo-{component}")["spec"]
        assert scaler["scaleTargetRef"]["name"] == f"demo-{component}"
        assert scaler["minReplicas"] == least


def test_suspended_the_autoscaler_rests_too(stack):
    rendered = stack({"suspend": True, "app": {"autoscaling": {"enabled": True}}})
    # Kubernetes leaves a workload alone that is scaled to zero.
    assert rendered.one("Deployment", "demo-app")["spec"]["replicas"] == 0


def test_a_disruption_budget_counts_the_pods_of_its_part(published):
    budget = published.one("PodDisruptionBudget", "demo-app")["spec"]
    pods = published.one("Deployment", "demo-app")["spec"]["template"]["metadata"]["labels"]
    assert budget["selector"]["matchLabels"].items() <= pods.items()
    assert budget["maxUnavailable"] == 2


def test_the_ingress_leads_to_the_service(published):
    ingress = published.one("Ingress", "demo-app")
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": "demo-app", "port": {"name": "http"}}
    assert rule["host"] == "rag.example.com"
    assert ingress["spec"]["tls"] == [{"hosts": ["rag.example.com"], "secretName": "rag-tls"}]
    assert ingress["metadata"]["annotations"] == {
        "nginx.ingress.kubernetes.io/proxy-read-timeout": "600",
        "owner": "platform@example.com",
    }


def test_the_route_leads_to_the_service_and_lets_answers_stream(published):
    route = published.one("HTTPRoute", "demo-app")["spec"]
    (rule,) = route["rules"]
    assert rule["timeouts"] == {"request": "0s"}
    assert [(b["name"], b["port"]) for b in rule["backendRefs"]] == [("demo-app", 8000)]
    assert route["parentRefs"][0]["kind"] == "Gateway"


def test_every_service_and_server_is_of_both_families(published):
    for service in published.kinds("Service"):
        assert service["spec"]["ipFamilyPolicy"] == "PreferDualStack"
        assert service["spec"]["ipFamilies"] == ["IPv6", "IPv4"]
    for component in ("app", "mem0"):
        env = {v["name"]: v["value"] for v in _pod(published, component)["containers"][0]["env"]}
        assert env["HOST"] == ""
    env = _pod(published, "ollama", "StatefulSet")["containers"][0]["env"]
    assert {"name": "OLLAMA_HOST", "value": "[::]:11434"} in env


def test_common_labels_are_on_every_object_and_replace_none_of_ours(published):
    for manifest in published.manifests:
        assert manifest["metadata"]["labels"]["team"] == "search"
        assert manifest["metadata"]["labels"]["app.kubernetes.io/name"] == "metis-rag"
        assert manifest["metadata"]["annotations"]["owner"] == "platform@example.com"


def test_a_spread_without_selector_is_about_the_pods_themselves(published):
    (constraint,) = _pod(published, "app")["topologySpreadConstraints"]
    assert constraint["labelSelector"]["matchLabels"]["app.kubernetes.io/component"] == "app"


def test_a_spread_with_a_selector_keeps_it(stack):
    own = {"maxSkew": 1, "topologyKey": "zone", "labelSelector": {"matchLabels": {"a": "b"}}}
    rendered = stack({"mem0": {"topologySpreadConstraints": [own]}})
    assert _pod(rendered, "mem0")["topologySpreadConstraints"] == [own]


def test_without_fixed_ids_the_cluster_hands_them_out(mode):
    rendered = mode("solo-openshift")
    for _, template in rendered.pods():
        security = template["spec"]["securityContext"]
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(security)
        assert security["runAsNonRoot"]
        assert template["spec"]["nodeSelector"] == {"kubernetes.io/arch": "arm64"}


def test_an_operator_leaves_its_ids_to_the_cluster_too(render, root):
    values = yaml.safe_load((root / "tests/fixtures/values/instance-openshift.yaml").read_text())
    for name, template in render(values).pods():
        security = template["spec"]["securityContext"]
        assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(security), name
        assert security["runAsNonRoot"]


def test_volumes_accounts_and_first_containers_of_ones_own(mode):
    rendered = mode("solo-openshift")
    pod = _pod(rendered, "app")
    assert [c["name"] for c in pod["initContainers"]] == ["wait-for-approval", "prepare"]
    assert pod["priorityClassName"] == "business"
    mount = {"name": "company-ca", "mountPath": "/etc/company-ca", "readOnly": True}
    for container in (pod["initContainers"][1], pod["containers"][0]):
        assert mount in container["volumeMounts"]
    assert _pod(rendered, "mem0")["serviceAccountName"] == "shared"
    assert not [a for a in rendered.kinds("ServiceAccount") if a["metadata"]["name"] == "shared"]
    account = rendered.one("ServiceAccount", "demo-app")
    assert account["metadata"]["annotations"] == {
        "eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/rag"
    }
    database = _pod(rendered, "metis-postgres", "StatefulSet")
    assert "scripts" in {m["name"] for m in database["containers"][0]["volumeMounts"]}
