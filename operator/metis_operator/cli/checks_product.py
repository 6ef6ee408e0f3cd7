"""The checks of what the product brought: CRD, operator, instances, and the user's rights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from ..core import names
from ..core.compare import quantity
from ..core.conditions import READY, STALLED, condition
from ..core.health import values_key
from ..core.manifests import component_of
from ..core.objects import Object, annotations_of, labels_of, meta_of
from ..core.pods import Severity as PodSeverity
from ..core.pods import examine, pending_claim
from .diagnosis import Finding, fine, info, trouble, warning
from .facts import Facts
from .layout import age
from .operators import operator_of, watches
from .status_view import is_current, is_paused, needs_attention

_FULL = 0.9
_INSTALL = "helm install metis . -n metis --create-namespace"
_VERSION_LABEL = "app.kubernetes.io/version"


def crd(facts: Facts) -> Iterator[Finding]:
    """The CRD: there, established, and not older than the operator."""
    if facts.crd is None:
        if "crd" not in facts.unseen:
            what = f"The cluster does not know {names.KIND}s: the CRD is not installed."
            yield trouble("crd", what, f"Install the operator, which brings it: {_INSTALL}")
        return
    version = annotations_of(facts.crd).get(names.ANNOTATION_CRD_VERSION, "unknown")
    conditions = (facts.crd.get("status") or {}).get("conditions") or ()
    established: Mapping[str, Any] = next(
        (c for c in conditions if c.get("type") == "Established"), {}
    )
    if established.get("status") != "True":
        said = established.get("message") or "the API server has not taken it up yet"
        yield trouble(
            "crd", f"The CRD is not established: {said}", "kubectl describe crd metisrags"
        )
        return
    for operator in facts.operators or ():
        theirs = labels_of(operator).get(_VERSION_LABEL, "")
        if theirs and _numbers(theirs) > _numbers(version):
            yield trouble(
                "crd",
                f"The CRD is of version {version}, the operator {_name(operator)} of {theirs}: new "
                "fields of the spec and of the status are dropped.",
                "Let the operator bring it (its role must allow it), or apply "
                "charts/operator/crds/ by hand: Helm never upgrades a CRD.",
            )
            return
        if theirs and _numbers(theirs) < _numbers(version):
            yield warning(
                "crd",
                f"The CRD is of version {version}, the operator {_name(operator)} of {theirs}: it "
                "does not know all fields of the spec.",
                "Upgrade the operator.",
            )
            return
    yield fine("crd", f"version {version}")


def operator(facts: Facts) -> Iterator[Finding]:
    """An operator that runs and leads, one for each namespace."""
    if facts.operators is None:
        return
    if not facts.operators:
        orphans = len(facts.resources or ())
        what = "There is no operator in this cluster"
        what += f", and nobody looks after {orphans} MetisRAG(s)." if orphans else "."
        yield trouble("operator", what, f"Install one: {_INSTALL}")
        return
    for found in facts.operators:
        yield from _one_operator(facts, found)
    for resource in facts.resources or ():
        namespace = str(meta_of(resource)["namespace"])
        watching = [_name(o) for o in facts.operators if watches(o, namespace)]
        if len(watching) > 1:
            what = f"{_name(resource)} is looked after by {' and '.join(watching)}."
            yield trouble("operator", what, "Keep one: uninstall the other, or set watchNamespace.")
        elif not watching:
            what = f"No operator looks after namespace {namespace}, where {_name(resource)} is."
            yield trouble("operator", what, "Add the namespace to the operator's watchNamespace.")


def _one_operator(facts: Facts, found: Object) -> Iterator[Finding]:
    meta, status = meta_of(found), found.get("status") or {}
    name = _name(found)
    if not int(status.get("readyReplicas") or 0):
        pods = [
            p
            for p in facts.operator_pods or ()
            if meta_of(p).get("namespace") == meta.get("namespace")
            and labels_of(p).get(names.LABEL_INSTANCE) == labels_of(found).get(names.LABEL_INSTANCE)
        ]
        causes = [f.message for p in pods if (f := examine(p, (), "operator")) is not None]
        because = causes[0] if causes else "it has no pod that is ready"
        scaled = int((found.get("spec") or {}).get("replicas", 1)) == 0
        what = f"The operator {name} does not run: {'it is scaled to zero' if scaled else because}"
        todo = f"kubectl -n {meta['namespace']} logs deploy/{meta['name']} --tail=20"
        yield trouble("operator", what, "Scale it up." if scaled else todo)
        return
    version = labels_of(found).get(_VERSION_LABEL, "")
    lease = facts.leases.get(name)
    spec = (lease or {}).get("spec") or {}
    if lease is not None and not spec.get("holderIdentity"):
        what = f"No pod of the operator {name} leads: its Lease is free."
        yield trouble("operator", what, "It should be taken in seconds; see the operator's log.")
        return
    silent = _silence(spec, facts.server_now or facts.now)
    if silent > 2 * float(spec.get("leaseDurationSeconds") or 15):
        what = f"The leading pod of the operator {name} has not been heard of for {age(silent)}."
        yield trouble("operator", what, f"kubectl -n {meta['namespace']} get pods; see its log.")
        return
    leads = f", led by {spec['holderIdentity']}" if spec.get("holderIdentity") else ""
    yield fine("operator", f"{name} {version} runs{leads}".replace("  ", " "))


def instances(facts: Facts) -> Iterator[Finding]:
    """What the MetisRAGs themselves complain of, and which nobody has looked at."""
    if facts.resources is None:
        return
    well = 0
    for resource in facts.resources:
        name, namespace = meta_of(resource)["name"], meta_of(resource)["namespace"]
        see = f"kubectl metis status {name} -n {namespace}"
        ready = condition(resource.get("status") or {}, READY)
        if is_paused(resource):
            what = f"{_name(resource)} is paused: its objects are not kept as the spec says."
            yield info("instance", what, f"kubectl metis resume {name} -n {namespace}")
        elif not is_current(resource):
            what = f"The operator has not looked at the latest {_name(resource)} yet."
            if operator_of(facts.operators or (), str(namespace)):
                yield warning("instance", what, f"Look again in a moment: {see}")
        elif needs_attention(resource):
            what = f"{_name(resource)} is not ready: {_cause(resource)}"
            waits = ready.get("reason") == "Progressing"
            yield (warning if waits else trouble)("instance", what, see)
        else:
            well += 1
    total = len(facts.resources)
    if not total:
        yield info("instance", "there is no MetisRAG")
    elif well:
        yield fine("instance", f"{well} of {total} MetisRAGs are as their specs ask")


def _cause(resource: Object) -> str:
    """Why it is not ready, in few words: what its pods suffer from is told by another check."""
    status = resource.get("status") or {}
    stalled = condition(status, STALLED)
    if stalled.get("status") == "True":
        return str(stalled.get("message"))
    parts = [c for c in status.get("components") or () if not c.get("ready")]
    named = ", ".join(f"{c.get('name')} ({c.get('reason')})" for c in parts)
    return f"{named}." if named else str(condition(status, READY).get("message"))


def pods(facts: Facts) -> Iterator[Finding]:
    """Pods and volumes in trouble: images that cannot be pulled, crashes, no room."""
    claims = facts.claims or []
    found: Counter[tuple[str, str]] = Counter()
    for pod in facts.pods or ():
        component = component_of(pod)
        own = [c for c in claims if _belongs(c, pod)]
        seen = examine(pod, own, values_key(component))
        if seen is not None and seen.severity is PodSeverity.TROUBLE:
            found[meta_of(pod)["namespace"], seen.message] += 1
    for claim in claims:
        if (claim.get("status") or {}).get("phase") == "Pending":
            seen = pending_claim(claim)
            if seen.severity is PodSeverity.TROUBLE:
                found[meta_of(claim)["namespace"], seen.message] += 1
    for namespace, message in found:
        yield trouble("pods", f"In {namespace}: {message}", _cure(message, namespace))
    if facts.pods and not found:
        yield fine("pods", f"none of {len(facts.pods)} pods is in trouble")


def _cure(message: str, namespace: str) -> str:
    if "cannot pull image" in message:
        return (
            "Is the name right, can the nodes reach the registry, does it ask for a login? See "
            "spec.image.registry and spec.image.pullSecrets."
        )
    return f"kubectl -n {namespace} describe pods; kubectl metis logs -n {namespace} --previous"


def quota(facts: Facts) -> Iterator[Finding]:
    """Quotas that are used up, and what could not be made because of one."""
    refused = [
        e
        for e in facts.events or ()
        if "exceeded quota" in str(e.get("message")) or "forbidden" in str(e.get("message"))
    ]
    latest: dict[tuple[str, str], str] = {}
    for event in refused:
        about = event.get("involvedObject") or {}
        if any(_is_of(about, r) for r in facts.resources or ()):
            key = (str(meta_of(event).get("namespace")), f"{about.get('kind')}/{about.get('name')}")
            latest[key] = str(event.get("message"))
    for (namespace, name), message in latest.items():
        what = f"{name} in {namespace} cannot make its pods: {message}"
        yield trouble("quota", what, "Raise the quota, or lower resources in the spec.")
    used = {str(meta_of(r)["namespace"]) for r in facts.resources or ()}
    tight = False
    for found in facts.quotas or ():
        if meta_of(found)["namespace"] not in used:
            continue
        for resource, hard, spent in _spent(found):
            tight = True
            what = f"Quota {_name(found)} is used up to {spent} of {hard} {resource}."
            yield warning("quota", what, "New pods may be refused: raise it, or free some.")
    if facts.quotas is not None and not latest and not tight:
        yield fine("quota", "no quota is in the way")


def rights(facts: Facts) -> Iterator[Finding]:
    """What the user may do, as far as the commands need it."""
    missing = [right for right, allowed in facts.rights.items() if not allowed]
    for right in missing:
        what, _, commands = right.partition(": ")
        where = f"in namespace {facts.namespace}" if facts.namespace else "in all namespaces"
        yield warning(
            "rights",
            f"You may not {what} {where}: {commands} will be refused.",
            "Ask an administrator of the cluster for a role, if you need it.",
        )
    if facts.unseen:
        what = f"you may not look at: {', '.join(sorted(set(facts.unseen)))}"
        yield info("rights", what, "What depends on it was not checked.")
    if not missing and not facts.unseen:
        yield fine("rights", "you may do what every command needs")


def _spent(found: Object) -> Iterator[tuple[str, str, str]]:
    status = found.get("status") or {}
    for resource, hard in (status.get("hard") or {}).items():
        spent = (status.get("used") or {}).get(resource, "0")
        limit, amount = quantity(hard), quantity(spent)
        if limit and amount is not None and amount >= limit * _as_decimal(_FULL):
            yield resource, str(hard), str(spent)


def _as_decimal(number: float) -> Any:
    return quantity(number)


def _belongs(claim: Object, pod: Object) -> bool:
    wanted = (names.LABEL_INSTANCE, names.LABEL_COMPONENT)
    same = all(labels_of(claim).get(k) == labels_of(pod).get(k) for k in wanted)
    return same and meta_of(claim).get("namespace") == meta_of(pod).get("namespace")


def _is_of(about: Mapping[str, Any], resource: Object) -> bool:
    meta = meta_of(resource)
    same = about.get("namespace") == meta["namespace"]
    return bool(same and str(about.get("name", "")).startswith(f"{meta['name']}-"))


def _silence(spec: Mapping[str, Any], now: datetime) -> float:
    """Seconds since a Lease was renewed; none where it does not say."""
    try:
        renewed = datetime.fromisoformat(str(spec["renewTime"]).replace("Z", "+00:00"))
    except (KeyError, ValueError):
        return 0.0
    return (now - renewed).total_seconds()


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split("-", 1)[0].split("+", 1)[0].lstrip("v").split(".")
    return tuple(int(p) for p in parts) if all(p.isdigit() for p in parts) else (0,)


def _name(obj: Object) -> str:
    return f"{meta_of(obj).get('namespace')}/{meta_of(obj).get('name')}"
