"""The network policies allow the needed flows and no other, judged as Kubernetes would."""

from __future__ import annotations

import pytest

PORTS = {
    "app": 8000, "mem0": 8050, "ollama": 11434, "metis-postgres": 5432, "mem0-postgres": 5432,
    # Jobs that nobody speaks to: those that change database logins, and Helm's own rotation.
    "rotation": 80, "rotator": 80,
}  # fmt: skip
NEEDED = {
    ("app", "metis-postgres"),
    ("app", "mem0"),
    ("app", "ollama"),
    ("mem0", "mem0-postgres"),
    ("mem0", "ollama"),
    ("rotation", "metis-postgres"),
    ("rotation", "mem0-postgres"),
    ("rotator", "mem0"),
    ("rotator", "app"),
}
PRELOADED = {"ollama": {"preload": {"image": "models:1"}}}
OPERATOR = {"app.kubernetes.io/name": "metis-operator"}


def _labels(component, instance="demo"):
    return {
        "app.kubernetes.io/name": "metis-rag",
        "app.kubernetes.io/instance": instance,
        "app.kubernetes.io/component": component,
    }


def _allowed(policies, labels, direction, other, port, *, same_namespace=True):
    """Whether the pods with ``labels`` may speak, or be spoken to, in ``direction``.

    ``other`` are the labels of the pod at the far end, None for an address outside the cluster.
    """
    chosen = [p["spec"] for p in policies if _matches(p["spec"]["podSelector"], labels)]
    chosen = [spec for spec in chosen if direction in spec["policyTypes"]]
    if not chosen:
        return True
    peers = "from" if direction == "Ingress" else "to"
    return any(
        port in [p["port"] for p in rule.get("ports", [{"port": port}])]
        and (
            peers not in rule
            or any(_is_peer(peer, other, same_namespace=same_namespace) for peer in rule[peers])
        )
        for spec in chosen
        for rule in spec[direction.lower()]
    )


def _is_peer(peer, labels, *, same_namespace):
    if labels is None or not (same_namespace or "namespaceSelector" in peer):
        return False
    return _matches(peer["podSelector"], labels)


def _matches(selector, labels):
    return selector["matchLabels"].items() <= labels.items()


@pytest.fixture
def policies(stack):
    return stack(PRELOADED).kinds("NetworkPolicy")


@pytest.mark.parametrize("source", PORTS)
@pytest.mark.parametrize("target", PORTS)
def test_flow(policies, source, target):
    if source == target:
        return
    port = PORTS[target]
    leaves = _allowed(policies, _labels(source), "Egress", _labels(target), port)
    enters = _allowed(policies, _labels(target), "Ingress", _labels(source), port)
    assert (leaves and enters) is ((source, target) in NEEDED)


@pytest.mark.parametrize("target", PORTS)
def test_strangers_reach_only_the_app(policies, target):
    for stranger in ({"app": "other"}, _labels("app", "other"), None):
        enters = _allowed(
            policies, _labels(target), "Ingress", stranger, PORTS[target], same_namespace=False
        )
        assert enters is (target == "app"), stranger


def test_an_operator_elsewhere_reaches_the_memory_server(policies):
    assert _allowed(policies, _labels("mem0"), "Ingress", OPERATOR, 8050, same_namespace=False)


@pytest.mark.parametrize("source", PORTS)
def test_nobody_reaches_the_internet(policies, source):
    if source == "rotator":
        return  # It speaks to the API server, whose address no policy can name.
    assert not _allowed(policies, _labels(source), "Egress", None, 443)


@pytest.mark.parametrize("source", ["app", "mem0"])
def test_names_can_be_resolved(policies, source):
    assert _allowed(policies, _labels(source), "Egress", {"k8s-app": "kube-dns"}, 53)


def test_the_model_server_reaches_a_registry_when_it_must_pull(stack):
    policies = stack().kinds("NetworkPolicy")
    assert _allowed(policies, _labels("ollama"), "Egress", None, 443)
    assert not _allowed(policies, _labels("app"), "Egress", None, 443)


def test_a_published_part_can_be_reached(stack):
    values = {"metisPostgres": {"service": {"type": "NodePort"}}}
    policies = stack(PRELOADED | values).kinds("NetworkPolicy")
    assert _allowed(policies, _labels("metis-postgres"), "Ingress", None, 5432)
    assert not _allowed(policies, _labels("mem0-postgres"), "Ingress", None, 5432)
