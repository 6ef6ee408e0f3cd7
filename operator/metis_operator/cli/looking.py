"""Looks at a cluster for ``doctor``. What the user may not see is noted, and no reason to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, NamedTuple

import yaml

from ..core import names
from ..core.manifests import environment
from ..core.objects import (
    CONFIG_MAP,
    CRD,
    DEPLOYMENT,
    EVENT,
    LEASE,
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
from .rest import Rest

NODE = Kind("", "v1", "Node", "nodes", namespaced=False)
STORAGE_CLASS = Kind("storage.k8s.io", "v1", "StorageClass", "storageclasses", namespaced=False)
QUOTA = Kind("", "v1", "ResourceQuota", "resourcequotas")
ENDPOINT_SLICE = Kind("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices")
DAEMON_SET = Kind("apps", "v1", "DaemonSet", "daemonsets")

OPERATOR_LABELS = {names.LABEL_NAME: "metis-operator"}
_CRD_KEY = Key(CRD, "", f"{names.PLURAL}.{names.GROUP}")


class Right(NamedTuple):
    """Something to be allowed, and the commands that need it."""

    verb: str
    group: str
    resource: str
    commands: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}: {self.commands}"


_TO_LIST = Right("list", names.GROUP, names.PLURAL, "status")
RIGHTS = (
    _TO_LIST,
    Right("patch", names.GROUP, names.PLURAL, "pause, resume and plan"),
    Right("get", "", "pods/log", "logs"),
    Right("create", "", "pods/portforward", "ask"),
    Right("get", "", "secrets", "ask without METIS_KEY, and plan"),
    Right("patch", "apps", "deployments", "restart and plan"),
)


async def gather(session: Session, namespace: str | None) -> Facts:
    """Look at everything, in one namespace or (None) in all that the user may see.

    Raises:
        ClusterError: the API server does not answer, or does not know the user.
    """
    if namespace is None and not await _may(session, _TO_LIST, ""):
        namespace = session.namespace
    facts = Facts(session.place, namespace, datetime.now(UTC))
    rest = session.rest
    facts.version = str((await rest.get("/version")).get("gitVersion", ""))
    facts.server_now = _http_date(await rest.head("/version"))
    facts.now = datetime.now(UTC)  # as near to the server's as can be
    product = {"labelSelector": names.PRODUCT_SELECTOR}
    ours = {"labelSelector": ",".join(f"{k}={v}" for k, v in OPERATOR_LABELS.items())}
    dns = {"labelSelector": "k8s-app=kube-dns"}
    scope = namespace or ""
    wanted: dict[str, Callable[[], Awaitable[Any]]] = {
        "crd": partial(session.cluster.get, _CRD_KEY),
        "nodes": partial(rest.items, NODE),
        "node_leases": partial(rest.items, LEASE, "kube-node-lease"),
        "storage_classes": partial(rest.items, STORAGE_CLASS),
        "daemon_sets": partial(rest.items, DAEMON_SET),
        "dns": partial(rest.items, ENDPOINT_SLICE, "kube-system", dns),
        "operators": partial(rest.items, DEPLOYMENT, params=ours),
        "operator_pods": partial(rest.items, POD, params=ours),
        "resources": partial(_metisrags, rest, scope),
        "pods": partial(rest.items, POD, scope, product),
        "claims": partial(rest.items, PVC, scope, product),
        "quotas": partial(rest.items, QUOTA, scope),
        "events": partial(rest.items, EVENT, scope, {"fieldSelector": "reason=FailedCreate"}),
    }
    seen = await asyncio.gather(*(_seen(facts, name, look) for name, look in wanted.items()))
    for name, value in zip(wanted, seen, strict=True):
        setattr(facts, name, value)
    await _look_at_operators(session, facts)
    allowed = await asyncio.gather(*(_may(session, right, scope) for right in RIGHTS))
    facts.rights = {str(right): may for right, may in zip(RIGHTS, allowed, strict=True)}
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
            _seen(facts, "leases", partial(session.cluster.get, lease)),
            _seen(facts, "defaults", partial(session.cluster.get, config)),
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


async def _metisrags(rest: Rest, namespace: str) -> list[Object]:
    try:
        return await rest.items(METISRAG, namespace)
    except NotFoundError:  # no CRD: that is a finding of its own
        return []


async def _may(session: Session, right: Right, namespace: str) -> bool:
    """Whether the user has that right in the namespace, or (empty) in all of them."""
    resource, _, sub = right.resource.partition("/")
    attributes = {
        "verb": right.verb,
        "group": right.group,
        "resource": resource,
        "subresource": sub,
        "namespace": namespace,
    }
    spec = {"resourceAttributes": attributes}
    answer = await session.rest.review("selfsubjectaccessreviews", spec)
    return bool(answer.get("allowed"))


def _http_date(headers: Mapping[str, str]) -> datetime | None:
    try:
        return parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError):
        return None
