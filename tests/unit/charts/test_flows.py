"""The network policies allow the needed flows and no other, judged as Kubernetes would.

Every mode of use in tests/fixtures/values is held to one table: who may open a connection to which
port of whom. All that is not in the table must be refused, between all pods of the instance, and
to and from neighbours, strangers, other instances and addresses outside the cluster.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.unit.charts.policies import End, Pod, allowed, isolated

APP, MEM0, OLLAMA = "app", "mem0", "ollama"
METIS_DB, MEM0_DB = "metis-postgres", "mem0-postgres"
PARTS = {APP: 8000, MEM0: 8050, OLLAMA: 11434, METIS_DB: 5432, MEM0_DB: 5432}
JOBS = ("rotation", "rotator", "credentials", "test", "pull")
KEYS = {
    APP: "app",
    MEM0: "mem0",
    OLLAMA: "ollama",
    METIS_DB: "metisPostgres",
    MEM0_DB: "mem0Postgres",
}
TALKS_TO_THE_API_SERVER = ("rotator", "credentials")
API_SERVER, REGISTRY, NODE_DNS = "172.18.0.2", "203.0.113.10", "169.254.20.10"
PORTS = (22, 53, 443, 4000, 5353, 5432, 5433, 6432, 6443, 8000, 8050, 8080, 11434)


class Flow(NamedTuple):
    """A connection that is needed."""

    source: str
    target: str
    port: int
    protocol: str = "TCP"


def _labels(component: str, instance: str = "demo") -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "metis-rag",
        "app.kubernetes.io/instance": instance,
        "app.kubernetes.io/component": component,
    }


OTHERS: dict[str, End] = {
    "neighbour": Pod("neighbour", {"app": "web"}),
    "another app": Pod("another app", _labels(APP, "other")),
    "app elsewhere": Pod("app elsewhere", _labels(APP), "elsewhere"),
    "stranger": Pod("stranger", {"app": "web"}, "elsewhere"),
    "operator": Pod("operator", {"app.kubernetes.io/name": "metis-operator"}, "elsewhere"),
    "cluster": Pod("cluster", {"cnpg.io/cluster": "metis-pg"}),
    "cluster elsewhere": Pod("cluster elsewhere", {"cnpg.io/cluster": "metis-pg"}, "elsewhere"),
    "dns": Pod("dns", {"k8s-app": "kube-dns"}, "kube-system"),
    "dns on the node": NODE_DNS,
    "api server": API_SERVER,
    "registry": REGISTRY,
}


def needed(values: dict[str, Any]) -> set[Flow]:
    """The table, for the stack's values of a mode."""

    def value(path: str, default: Any = None) -> Any:
        found: Any = values
        for key in path.split("."):
            found = found.get(key, {}) if isinstance(found, dict) else {}
        return found or default

    flows = {
        Flow(APP, METIS_DB, 5432), Flow(APP, MEM0, 8050), Flow(APP, OLLAMA, 11434),
        Flow(MEM0, MEM0_DB, 5432), Flow(MEM0, OLLAMA, 11434),
        Flow("rotation", METIS_DB, 5432), Flow("rotation", MEM0_DB, 5432),
        Flow("rotator", MEM0, 8050), Flow("operator", MEM0, 8050),
        Flow("test", APP, 8000),
    }  # fmt: skip
    flows = {f for f in flows if f.target not in _brought(values)}
    unlimited = [*TALKS_TO_THE_API_SERVER]
    pulls = value("ollama.pull", {}).get("enabled", True) and not value("ollama.preload.image")
    if pulls and OLLAMA not in _brought(values):
        unlimited.append(OLLAMA)  # it pulls from a registry, which may be anywhere
        flows |= {Flow("pull", OLLAMA, 11434), Flow("operator", "pull", 8080)}
    published = [APP]  # by an Ingress or a Gateway, whose pods may be anywhere
    published += [
        part for part in PARTS if value(f"{KEYS[part]}.service.type", "ClusterIP") != "ClusterIP"
    ]
    for part in published:
        flows |= {Flow(who, part, PARTS[part]) for who in (*OTHERS, *unlimited)}
    for who in unlimited:
        flows |= {Flow(who, o, p, via) for o in OTHERS for p in PORTS for via in ("TCP", "UDP")}
    for who, port in _outside(values):
        flows |= {Flow(who, o, port) for o in OTHERS}
    if value("metisPostgres.cloudNativePG.cluster"):
        flows.add(Flow(APP, "cluster", 5432))
    asks_names = [APP, MEM0, "rotation", "test", "pull"]
    for who, via in itertools.product(asks_names, ("TCP", "UDP")):
        flows |= {Flow(who, o, p, via) for o, end in OTHERS.items() for p in (53, 5353)
                  if isinstance(end, Pod) or o == "dns on the node"}  # fmt: skip
    return flows


def _server(values: dict[str, Any], path: str) -> dict[str, Any]:
    found: Any = values
    for key in path.split("."):
        found = found.get(key, {})
    return dict(found)


def _brought(values: dict[str, Any]) -> set[str]:
    """The parts that are brought from outside."""
    brought = set()
    for part in (METIS_DB, MEM0_DB):
        own = values.get(KEYS[part], {})
        if own.get("external") or own.get("cloudNativePG"):
            brought.add(part)
    if _server(values, "mem0.external"):
        brought |= {MEM0, MEM0_DB}
    openai = _server(values, "models.openai")
    if _server(values, "ollama.external") or {"chat", "embedding"} <= set(openai):
        brought.add(OLLAMA)
    return brought


def _outside(values: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Who may reach which port of servers that may be anywhere (those with peers may not)."""
    models = [MEM0, APP] if MEM0 not in _brought(values) else [APP]
    clients = {
        "metisPostgres.external": [APP],
        "mem0Postgres.external": [MEM0],
        "mem0.external": [APP],
        "ollama.external": models,
        "models.openai.chat": models,
        "models.openai.embedding": models,
    }
    usual = {"http": 80, "https": 443, "postgresql": 5432}
    for path, who in clients.items():
        server = _server(values, path)
        if server and not server.get("peers"):
            url = urlsplit(server["url"])
            for client in who:
                yield client, url.port or usual[url.scheme]


def _instance(rendered: Any) -> dict[str, Pod]:
    """The instance's pods by component, and those of Jobs that a rotation makes."""
    pods = {}
    for name, template in rendered.pods():
        labels = template["metadata"]["labels"]
        if labels["app.kubernetes.io/name"] != "metis-rag":
            continue
        ports = {
            port["name"]: port["containerPort"]
            for container in template["spec"]["containers"]
            for port in container.get("ports", [])
        }
        component = labels["app.kubernetes.io/component"]
        assert component not in pods or component == "pull", name
        pods[component] = Pod(component, labels, named_ports=ports)
    made = ["rotation"] if {METIS_DB, MEM0_DB} & set(pods) else []
    pods |= {job: Pod(job, _labels(job)) for job in (*made, "test")}
    return pods


def _stacks(rendered: list[Any], values: dict[str, Any]) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Each rendering of a stack in a mode, with the values of that stack."""
    if "stack" in values:
        yield rendered[0], values["stack"]
    for one in rendered[1:]:
        spec = values.get("instance", {}).get("spec", {})
        yield one, {**values.get("operator", {}).get("defaults", {}), **spec}


def _judged(policies: Any, pods: dict[str, Pod], ports: tuple[int, ...] = PORTS) -> set[Flow]:
    """All that the policies let through, of which one end is a pod of the instance."""
    ends: dict[str, End] = {**OTHERS, **pods}
    return {
        Flow(source, target, port, protocol)
        for source, target in itertools.product(ends, ends)
        if source in pods or target in pods
        for port in ports
        for protocol in ("TCP", "UDP")
        if allowed(policies, ends[source], ends[target], port, protocol)
    }


def test_every_mode_lets_the_needed_flows_through_and_no_other(
    all_rendered: Any, fixture_values: dict[str, Any]
) -> None:
    for rendered, values in _stacks(all_rendered, fixture_values):
        pods = _instance(rendered)
        assert set(pods) <= {*PARTS, *JOBS}
        policies = rendered.kinds("NetworkPolicy")
        if values.get("networkPolicy", {}).get("enabled") is False:
            assert not policies
            continue
        wanted = {f for f in needed(values) if {f.source, f.target} <= {*pods, *OTHERS}}
        got = _judged(policies, pods)
        assert got - wanted == set(), "let through and not in the table"
        assert wanted - got == set(), "needed and refused"


def test_every_pod_is_cut_off_where_no_policy_lists_a_flow(all_rendered: Any) -> None:
    for rendered in all_rendered:
        policies = rendered.kinds("NetworkPolicy")
        if not policies:
            continue
        for _, template in rendered.pods():
            labels = template["metadata"]["labels"]
            pod = Pod("one", labels)
            if rendered.kinds("MetisRAG") and labels.get("app.kubernetes.io/component") == "test":
                continue  # its policy comes with the instance
            assert isolated(policies, pod, "Ingress"), labels
            free = (*TALKS_TO_THE_API_SERVER, "operator")
            if labels.get("app.kubernetes.io/component", "operator") not in free:
                assert isolated(policies, pod, "Egress"), labels


def test_nobody_opens_a_connection_to_the_operator_but_for_metrics(render: Any) -> None:
    rendered = render({})
    policies = rendered.kinds("NetworkPolicy")
    template = rendered.one("Deployment", "demo-operator")["spec"]["template"]
    operator = Pod("operator", template["metadata"]["labels"])
    open_ports = {p for p in PORTS if allowed(policies, OTHERS["stranger"], operator, p)}
    assert open_ports == {8080}


def test_a_missing_policy_is_noticed(stack: Any) -> None:
    """The judge itself: without any one of the policies, something forbidden gets through."""
    rendered = stack({"ollama": {"preload": {"image": "models:1"}}})
    policies, pods = rendered.kinds("NetworkPolicy"), _instance(rendered)
    complete = _judged(policies, pods, (443,))
    for left_out in policies:
        rest = [policy for policy in policies if policy is not left_out]
        assert _judged(rest, pods, (443,)) - complete, left_out["metadata"]["name"]


@pytest.mark.parametrize(
    ("rule", "port", "protocol", "other", "through"),
    [
        ({}, 80, "UDP", "203.0.113.9", True),
        ({"ports": [{"port": 80}]}, 80, "UDP", "203.0.113.9", False),
        ({"ports": [{"port": 80, "endPort": 90}]}, 90, "TCP", "203.0.113.9", True),
        ({"ports": [{"protocol": "UDP"}]}, 7, "UDP", "203.0.113.9", True),
        ({"to": [{"ipBlock": {"cidr": "203.0.113.0/24", "except": ["203.0.113.8/29"]}}]}, 80, "TCP",
         "203.0.113.9", False),
        ({"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}, 80, "TCP", "203.0.113.9", True),
        ({"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}, 80, "TCP", "2001:db8::1", False),
        ({"to": [{"podSelector": {}}]}, 80, "TCP", "203.0.113.9", False),
        ({"to": [{"podSelector": {}}]}, 80, "TCP", Pod("b", {}, "far"), False),
        ({"to": [{"podSelector": {}}]}, 80, "TCP", Pod("b", {"x": "y"}), True),
        ({"to": [{"namespaceSelector": {}}]}, 80, "TCP", Pod("b", {}, "far"), True),
        ({"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "far"}},
                  "podSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]}}]},
         80, "TCP", Pod("b", {}, "far"), False),
        ({"ports": [{"port": "web"}]}, 80, "TCP", Pod("b", {}, named_ports={"web": 80}), True),
    ],
)  # fmt: skip
def test_the_judge_reads_rules_as_kubernetes_does(
    rule: Any, port: int, protocol: str, other: End, through: bool
) -> None:
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]}
    policy = {"metadata": {"namespace": "rag"}, "spec": spec}
    assert allowed([policy], Pod("a", {}), other, port, protocol) is through
