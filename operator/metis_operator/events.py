"""Kubernetes events for what a person wants to know: each change once, in plain words."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import structlog

from .cluster import Cluster
from .core import names
from .core.conditions import ALL_READY, PROGRESSING, READY, Phase, condition
from .core.objects import EVENT, Key, Object, meta_of
from .errors import ClusterError

log = structlog.get_logger(__name__)

# Phase and reason of what has been told of one MetisRAG.
Topic = tuple[str, str]

_WARNINGS = (Phase.DEGRADED, Phase.FAILED)


def is_news(before: Mapping[str, Any], after: Mapping[str, Any], told: set[Topic]) -> bool:
    """Whether the change from one status to the next is worth an event; notes it in ``told``.

    Trouble that comes and goes (a crash loop) is told once, until all is well again or the
    spec has changed.
    """
    topic, former = _topic(after), _topic(before)
    if not told or before.get("observedGeneration") != after.get("observedGeneration"):
        told.clear()
        told.add(former)
    same_phase = topic[0] == former[0]
    if same_phase and (topic[0] not in _WARNINGS or topic[1] == PROGRESSING):
        return False
    if topic[0] == Phase.READY:
        told.clear()
    elif topic in told:
        return False
    told.add(topic)
    return True


async def post(
    cluster: Cluster, resource: Object, status: Mapping[str, Any], now: datetime
) -> None:
    """Post an event about the new ``status``. A failure is logged, never raised."""
    phase, reason = _topic(status)
    kind = "Warning" if phase in _WARNINGS else "Normal"
    said = phase if reason in (PROGRESSING, ALL_READY) else reason
    await tell(cluster, resource, kind, said, str(condition(status, READY).get("message")), now)


async def tell(
    cluster: Cluster, about: Object, kind: str, reason: str, message: str, now: datetime
) -> None:
    """Post an event of a kind (Normal, Warning) about an object. A failure is only logged."""
    meta = meta_of(about)
    unique = hashlib.sha256(f"{meta['uid']}{kind}{reason}{message}{now}".encode()).hexdigest()[:16]
    name = f"{meta['name']}.{unique}"
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": name, "namespace": meta["namespace"]},
        "involvedObject": {
            "apiVersion": about.get("apiVersion", names.API_VERSION),
            "kind": about.get("kind", names.KIND),
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
            "resourceVersion": meta.get("resourceVersion"),
        },
        "type": kind,
        "reason": reason,
        "message": message,
        "source": {"component": names.FIELD_MANAGER},
        "reportingComponent": names.FIELD_MANAGER,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
    try:
        await cluster.create(Key(EVENT, meta["namespace"], name), event)
    except ClusterError as error:
        log.warning(
            "cannot post an event", about=f"{meta['namespace']}/{meta['name']}", cause=str(error)
        )


def _topic(status: Mapping[str, Any]) -> Topic:
    return str(status.get("phase")), str(condition(status, READY).get("reason"))
