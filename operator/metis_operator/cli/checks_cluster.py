"""The checks of the cluster itself: nodes, storage, GPUs, DNS, network, clocks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ..core import conditions
from ..core.compare import quantity
from ..core.objects import Object, annotations_of, meta_of
from ..core.values import brought, get, merge
from .diagnosis import Finding, fine, info, trouble, warning
from .facts import Facts, names_of
from .layout import age
from .operators import operator_of

_OLDEST = (1, 30)
_DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_SKEW = 5.0
_SEVERE_SKEW = 60.0
_VOLUMES = ("ollama", "metisPostgres", "mem0Postgres")
# DaemonSets of networks that enforce network policies, by the beginning of their name.
_ENFORCING = (
    "calico-node",
    "canal",
    "cilium",
    "antrea-agent",
    "weave-net",
    "kube-router",
    "ovnkube-node",
    "ovs-ovn",
    "azure-npm",
    "kindnet",
    "anetd",
    "netd-network-policy",
)


def server(facts: Facts) -> Iterator[Finding]:
    """The API server: there, and new enough."""
    numbers = re.match(r"v?(\d+)\.(\d+)", facts.version)
    if numbers and (int(numbers[1]), int(numbers[2])) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        what = f"Kubernetes {facts.version} is older than {oldest}, the oldest that is supported."
        yield trouble("cluster", what, "Upgrade the cluster.")
        return
    yield fine("cluster", f"Kubernetes {facts.version} at {facts.place}")


def nodes(facts: Facts) -> Iterator[Finding]:
    """Nodes that are ready and have room."""
    if facts.nodes is None:
        return
    if not facts.nodes:
        yield trouble("nodes", "The cluster has no node.", "Add one: nothing can run.")
        return
    sick = [n for n in facts.nodes if _node_condition(n, "Ready") != "True"]
    for node in sick:
        name = meta_of(node)["name"]
        what = f"Node {name} is not ready: {_node_says(node, 'Ready')}"
        yield trouble("nodes", what, f"Look at its kubelet: kubectl describe node {name}")
    for node in facts.nodes:
        for kind in ("DiskPressure", "MemoryPressure", "PIDPressure"):
            if _node_condition(node, kind) == "True":
                name = meta_of(node)["name"]
                what = f"Node {name} has {kind}: {_node_says(node, kind)}"
                yield trouble("nodes", what, "Free some: pods are evicted from it until then.")
    if not sick:
        count = len(facts.nodes)
        yield fine("nodes", f"{count} node{'s' if count > 1 else ''} ready")


def storage(facts: Facts) -> Iterator[Finding]:
    """A default storage class where somebody relies on it, and no missing one."""
    if facts.storage_classes is None:
        return
    known = {str(meta_of(c)["name"]) for c in facts.storage_classes}
    default = [c for c in facts.storage_classes if annotations_of(c).get(_DEFAULT_CLASS) == "true"]
    relying = []
    for resource in facts.resources or ():
        values = _values(facts, resource)
        for volume in _VOLUMES:
            if volume in brought(values):
                continue
            wanted = get(values, f"{volume}.storage.className") or ""
            if not wanted:
                relying.append(_name(resource))
            elif wanted not in known:
                what = f"{_name(resource)} asks for storage class {wanted}, which is not there."
                todo = f"Set spec.{volume}.storage.className to one of: {', '.join(known) or '-'}."
                yield trouble("storage", what, todo)
    if default:
        if len(default) > 1:
            what = f"There are {len(default)} default storage classes: {names_of(default)}."
            yield warning("storage", what, "Keep one: the newest is taken.")
        else:
            yield fine("storage", f"default storage class {names_of(default)}")
        return
    todo = (
        f"Mark one as default: kubectl patch storageclass {min(known)} -p "
        f'\'{{"metadata":{{"annotations":{{"{_DEFAULT_CLASS}":"true"}}}}}}\''
        if known
        else "Install a provisioner with a StorageClass; without one no volume is made."
    )
    todo += " or set storage.className of ollama, metisPostgres and mem0Postgres." if known else ""
    for_whom = f", and {', '.join(dict.fromkeys(relying))} relies on it" if relying else ""
    say = trouble if relying or not known else warning
    yield say("storage", f"There is no default storage class{for_whom}.", todo)


def gpus(facts: Facts) -> Iterator[Finding]:
    """A GPU on some node for whoever asks for one."""
    if facts.nodes is None:
        return
    wanting = False
    for resource in facts.resources or ():
        values = _values(facts, resource)
        if not get(values, "ollama.gpu.enabled") or "ollama" in brought(values):
            continue
        wanting = True
        kind = str(get(values, "ollama.gpu.resourceName", "nvidia.com/gpu"))
        count = int(get(values, "ollama.gpu.count", 1))
        most = max((_allocatable(n, kind) for n in facts.nodes), default=0)
        fallback = conditions.condition(resource.get("status") or {}, conditions.FALLBACK)
        if fallback:
            what = f"{_name(resource)} asks for {count} {kind} and runs on the CPU meanwhile."
            yield warning("gpu", what, str(fallback.get("message")))
            continue
        if most >= count:
            yield fine("gpu", f"{_name(resource)} asks for {count} {kind}, a node has {most}")
            continue
        what = f"{_name(resource)} asks for {count} {kind}, and no node offers "
        what += f"more than {most}." if most else "any."
        todo = (
            "Lower spec.ollama.gpu.count, or add a node with more."
            if most
            else "Install the device plugin of your GPUs on the nodes that have them, correct "
            "spec.ollama.gpu.resourceName, or set spec.ollama.gpu.enabled to false."
        )
        yield trouble("gpu", what, todo)
    if not wanting:
        offered = sorted({k for n in facts.nodes for k in _devices(n)})
        there = f"offered: {', '.join(offered)}" if offered else "no node has one"
        yield info("gpu", f"no MetisRAG asks for a GPU; {there}")


def dns(facts: Facts) -> Iterator[Finding]:
    """Name resolution that somebody serves."""
    if facts.dns is None:
        return
    ready = sum(
        bool((e.get("conditions") or {}).get("ready", True))
        for s in facts.dns
        for e in s.get("endpoints") or ()
    )
    if ready:
        yield fine("dns", f"{ready} DNS server{'s' if ready > 1 else ''} ready")
        return
    if not facts.dns:
        what = "There is no Service labelled k8s-app=kube-dns in kube-system."
        yield warning("dns", what, "Does the cluster bring a DNS of another kind?")
        return
    yield trouble(
        "dns",
        "No DNS server of the cluster is ready: no part of an instance finds the others.",
        "kubectl -n kube-system get pods -l k8s-app=kube-dns",
    )


def network(facts: Facts) -> Iterator[Finding]:
    """Whether somebody enforces network policies, as far as one can tell."""
    if facts.daemon_sets is None:
        return
    found = [d for d in facts.daemon_sets if str(meta_of(d)["name"]).startswith(_ENFORCING)]
    if found:
        yield fine("network", f"network policies are enforced by {names_of(found)}")
        return
    yield info(
        "network",
        "No network that is known to enforce network policies: an instance's may have no effect.",
        "For isolation, install one that does, such as Calico or Cilium.",
    )


def clock(facts: Facts) -> Iterator[Finding]:
    """Clocks that agree: this machine's, the API server's, the nodes'."""
    if facts.server_now is None:
        return
    skew = (facts.now - facts.server_now).total_seconds()
    if abs(skew) > _SKEW:
        direction = "ahead of" if skew > 0 else "behind"
        what = f"This machine's clock is {age(abs(skew))} {direction} the API server's."
        todo = "Set it by NTP: ages shown here are wrong, and tokens may be refused."
        yield (trouble if abs(skew) > _SEVERE_SKEW else warning)("clock", what, todo)
        return
    ahead = [
        (meta_of(lease)["name"], seconds)
        for lease in facts.node_leases or ()
        if (seconds := _ahead(lease, facts.server_now)) > _SKEW
    ]
    for name, seconds in ahead:
        what = f"The clock of node {name} is {age(seconds)} ahead of the API server's."
        yield trouble("clock", what, "Set it by NTP: certificates and tokens may be refused there.")
    if not ahead:
        yield fine("clock", "the clocks agree")


def _ahead(lease: Object, now: datetime) -> float:
    try:
        renewed = datetime.fromisoformat(str(lease["spec"]["renewTime"]).replace("Z", "+00:00"))
    except (KeyError, ValueError):
        return 0.0
    return (renewed - now).total_seconds()


def _values(facts: Facts, resource: Object) -> Mapping[str, Any]:
    """The values of a MetisRAG, with what its operator lays under them."""
    operator = operator_of(facts.operators or (), str(meta_of(resource)["namespace"]))
    defaults = facts.defaults.get(_name(operator), {}) if operator else {}
    return merge(defaults, resource.get("spec") or {})


def _name(obj: Object) -> str:
    return f"{meta_of(obj).get('namespace')}/{meta_of(obj).get('name')}"


def _condition(node: Object, kind: str) -> Mapping[str, Any]:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c.get("type") == kind), {})


def _node_condition(node: Object, kind: str) -> str:
    return str(_condition(node, kind).get("status"))


def _node_says(node: Object, kind: str) -> str:
    condition = _condition(node, kind)
    return str(condition.get("message") or condition.get("reason") or "it does not say why")


def _allocatable(node: Object, kind: str) -> int:
    number = quantity(((node.get("status") or {}).get("allocatable") or {}).get(kind, 0))
    return int(number or 0)


def _devices(node: Object) -> list[str]:
    offered = (node.get("status") or {}).get("allocatable") or {}
    return [k for k in offered if "gpu" in k.lower() and _allocatable(node, k)]
