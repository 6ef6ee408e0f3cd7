"""What NetworkPolicies let through, by Kubernetes' own rules. Pure.

A pod that no policy selects for a direction may do everything in that direction; one that is
selected may do what at least one of those policies lists. A connection needs the leave of both of
its ends. An end is a pod, or an address outside the cluster.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Policy = Mapping[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod, as a policy sees it."""

    name: str
    labels: Mapping[str, str]
    namespace: str = "rag"
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    named_ports: Mapping[str, int] = field(default_factory=dict)

    def __hash__(self) -> int:
        return hash((self.name, self.namespace))


End = Pod | str
"""A pod, or an address outside the cluster."""


def allowed(
    policies: Sequence[Policy], source: End, target: End, port: int, protocol: str = "TCP"
) -> bool:
    """Whether ``source`` may open a connection to ``port`` of ``target``."""
    leaves = not isinstance(source, Pod) or _may(
        policies, source, "Egress", target, target, port, protocol
    )
    enters = not isinstance(target, Pod) or _may(
        policies, target, "Ingress", source, target, port, protocol
    )
    return leaves and enters


def isolated(policies: Iterable[Policy], pod: Pod, direction: str) -> bool:
    """Whether any policy selects ``pod`` for "Ingress" or "Egress"."""
    return any(_applies(policy, pod, direction) for policy in policies)


def _may(
    policies: Iterable[Policy],
    pod: Pod,
    direction: str,
    other: End,
    target: End,
    port: int,
    protocol: str,
) -> bool:
    chosen = [policy for policy in policies if _applies(policy, pod, direction)]
    if not chosen:
        return True
    peers = "from" if direction == "Ingress" else "to"
    return any(
        _has_port(rule.get("ports"), target, port, protocol)
        and _has_peer(rule.get(peers), other, policy["metadata"]["namespace"])
        for policy in chosen
        for rule in policy["spec"].get(direction.lower()) or ()
    )


def _applies(policy: Policy, pod: Pod, direction: str) -> bool:
    spec = policy["spec"]
    default = ["Ingress"] + (["Egress"] if "egress" in spec else [])
    return (
        policy["metadata"]["namespace"] == pod.namespace
        and direction in spec.get("policyTypes", default)
        and _selects(spec["podSelector"], pod.labels)
    )


def _has_port(ports: Any, target: End, port: int, protocol: str) -> bool:
    if not ports:
        return True
    return any(
        one.get("protocol", "TCP") == protocol and _is_port(one, target, port) for one in ports
    )


def _is_port(one: Mapping[str, Any], target: End, port: int) -> bool:
    first = one.get("port")
    if first is None:
        return True
    if isinstance(first, str):
        return isinstance(target, Pod) and target.named_ports.get(first) == port
    return bool(first <= port <= one.get("endPort", first))


def _has_peer(peers: Any, other: End, namespace: str) -> bool:
    return not peers or any(_is_peer(peer, other, namespace) for peer in peers)


def _is_peer(peer: Mapping[str, Any], other: End, namespace: str) -> bool:
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        return isinstance(other, str) and (
            _within(other, block["cidr"])
            and not any(_within(other, hole) for hole in block.get("except", ()))
        )
    if isinstance(other, str):
        return False
    if "namespaceSelector" in peer:
        labels = {"kubernetes.io/metadata.name": other.namespace, **other.namespace_labels}
        if not _selects(peer["namespaceSelector"], labels):
            return False
    elif other.namespace != namespace:
        return False
    return _selects(peer.get("podSelector") or {}, other.labels)


def _within(address: str, cidr: str) -> bool:
    one, block = ipaddress.ip_address(address), ipaddress.ip_network(cidr)
    return one.version == block.version and one in block


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    wanted = selector.get("matchLabels") or {}
    return wanted.items() <= labels.items() and all(
        _meets(expression, labels) for expression in selector.get("matchExpressions") or ()
    )


def _meets(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
    raise ValueError(f"no operator of a selector: {expression['operator']}")
