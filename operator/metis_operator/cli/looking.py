"""Looks at a cluster for ``doctor``. What the user may not see is noted, and no reason to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import yaml

from ..core import names
from ..core.manifests import environment
from ..core.objects import (
    CONFIG_MAP,
    CRD,
    DEPLOYMENT,
    EVENT,
    METISRAG,
    POD,
    PVC,
    Key,
    Kind,
    Object,
    meta_of,
)
from ..errors import ClusterError, NotFoundError
from .facts import Facts
from .reach import Session

NODE = Kind("", "v1", "Node", "nodes", namespaced=False)
STORAGE_CLASS = Kind("storage.k8s.io", "v1", "StorageClass", "storageclasses", namespaced=False)
QUOTA = Kind("", "v1", "ResourceQuota", "resourcequotas")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")
ENDPOINT_SLICE = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
DAEMON_SET = Kind("apps", "v1", "DaemonSet", "daemonsets")

OPERATOR_LABELS = {names.LABEL_NAME: "metis-operator"}
_CRD_KEY = Key(CRD, "", f"{names.PLURAL}.{names.GROUP}")

# What the commands ask of the API server: verb, group, resource, subresource, and who needs it.
RIGHTS = (
    ("list", names.GROUP, names.PLURAL, "", "status"),
    ("patch", names.GROUP, names.PLURAL, "", "pause, resume and plan"),
    ("get", "", "pods", "log", "logs"),
    ("create", "", "pods", "portforward", "ask"),
    ("get", "", "secrets", "", "ask without METIS_KEY, and plan"),
    ("patch", "apps", "deployments", "", "restart and plan"),
)


async def gather(session: Session, namespace: str | None) -> Facts:
    """Look at everything, in one namespace or (None) in all.

    Raises:
        ClusterError: the API server does not answer, or does not know the user.
    """
    facts = Facts(session.place, namespace, datetime.now(UTC))
    rest = session.rest
    facts.version = str((await rest.get("/version")).get("gitVersion", ""))
    facts.server_now = _http_date(await rest.head("/version"))
    facts.now = datetime.now(UTC)
    product = {"labelSelector": names.PRODUCT_SELECTOR}
    ours = {"labelSelector": ",".join(f"{k}={v}" for k, v in OPERATOR_LABELS.items())}
    dns = {"labelSelector": "k8s-app=kube-dns"}
    scope = namespace or ""
    wanted: dict[str, Callable[[], Awaitable[Any]]] = {
        "crd": lambda: session.cluster.get(_CRD_KEY),
        "nodes": lambda: rest.items(NODE),
        "node_leases": lambda: rest.items(LEASE, "kube-node-lease"),
        "storage_classes": lambda: rest.items(STORAGE_CLASS),
        "daemon_sets": lambda: rest.items(DAEMON_SET),
        "dns": lambda: rest.items(ENDPOINT_SLICE, "kube-system", dns),
        "operators": lambda: rest.items(DEPLOYMENT, params=ours),
        "operator_pods": lambda: rest.items(POD, params=ours),
        "resources": lambda: _none_if_unknown(rest.items(METISRAG, scope)),
        "pods": lambda: rest.items(POD, scope, product),
        "claims": lambda: rest.items(PVC, scope, product),
        "quotas": lambda: rest.items(QUOTA, scope),
        "events": lambda: rest.items(EVENT, scope, {"fieldSelector": "reason=FailedCreate"}),
    }
    seen = await asyncio.gather(*(_seen(facts, name, look) for name, look in wanted.items()))
    for name, value in zip(wanted, seen, strict=True):
        setattr(facts, name, value)
    await _look_at_operators(session, facts)
    facts.rights = await _rights(session, namespace)
    return facts


async def _look_at_operators(session: Session, facts: Facts) -> None:
    leases: dict[str, Object | None] = {}
    defaults: dict[str, Mapping[str, Any]] = {}
    for operator in facts.operators or ():
        meta = meta_of(operator)
        name, namespace = str(meta["name"]), str(meta["namespace"])
        lease = Key(LEASE, namespace, environment(operator, "METIS_LEASE") or "metis-operator")
        config = Key(CONFIG_MAP, namespace, name)
        there = f"{namespace}/{name}"
        found = await asyncio.gather(
            _seen(facts, "leases", lambda key=lease: session.cluster.get(key)),  # type: ignore[misc]
            _seen(facts, "defaults", lambda key=config: session.cluster.get(key)),  # type: ignore[misc]
        )
        leases[there] = found[0]
        text = ((found[1] or {}).get("data") or {}).get("defaults.yaml", "")
        defaults[there] = yaml.safe_load(text) or {}
    facts.leases, facts.defaults = leases, defaults


async def _seen(facts: Facts, what: str, look: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await look()
    except ClusterError as error:
        if error.code != 403:
            raise
        facts.unseen.append(what.replace("_", " "))
        return None


async def _none_if_unknown(listing: Awaitable[list[Object]]) -> list[Object]:
    try:
        return await listing
    except NotFoundError:  # no CRD: that is a finding of its own
        return []


async def _rights(session: Session, namespace: str | None) -> dict[str, bool]:
    async def allowed(verb: str, group: str, resource: str, sub: str) -> bool:
        attributes = {"verb": verb, "group": group, "resource": resource, "subresource": sub}
        where = {"namespace": namespace or session.namespace}
        spec = {"resourceAttributes": {**attributes, **where}}
        answer = await session.rest.review("selfsubjectaccessreviews", spec)
        return bool(answer.get("allowed"))

    answers = await asyncio.gather(*(allowed(*right[:4]) for right in RIGHTS))
    return {_right(*right): ok for right, ok in zip(RIGHTS, answers, strict=True)}


def _right(verb: str, group: str, resource: str, sub: str, commands: str) -> str:
    return f"{verb} {resource}{f'/{sub}' if sub else ''}: {commands}"


def _http_date(headers: Mapping[str, str]) -> datetime | None:
    try:
        return parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError):
        return None
