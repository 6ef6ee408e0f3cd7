"""Volumes that are to grow: asked of the API server, which knows whether their class allows it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog

from .cluster import Cluster
from .core.objects import PVC, Key
from .core.volumes import Expand
from .errors import ClusterError, NotFoundError
from .observe import Store

log = structlog.get_logger(__name__)

# So long, in seconds, a refusal stands before the same is asked again.
_ASK_AGAIN = 600.0


@dataclass
class Refusals:
    """Which growth was refused, and why; nobody is told of it when it is forgotten."""

    _known: dict[tuple[Key, str], tuple[float, str]] = field(default_factory=dict)

    def of(self, expand: Expand) -> str | None:
        """The words of a refusal that still stands, or None."""
        at, why = self._known.get((expand.key, expand.size), (float("-inf"), ""))
        return why if time.monotonic() < at + _ASK_AGAIN else None

    def note(self, expand: Expand, why: str) -> None:
        """Remember that the API server refused."""
        self._known[expand.key, expand.size] = (time.monotonic(), why)


async def grow(
    cluster: Cluster, store: Store, expansions: Iterable[Expand], refusals: Refusals
) -> list[tuple[Expand, str]]:
    """Carry out ``expansions``; returns those that were refused, with the reason.

    The API server's own admission knows the storage class, so the operator needs no right to.

    Raises:
        ClusterError: the API server did not answer, or someone else was faster.
    """
    refused = []
    for expand in expansions:
        why = refusals.of(expand)
        if why is None:
            why = await _ask(cluster, store, expand)
            if why is not None:
                refusals.note(expand, why)
        if why is not None:
            refused.append((expand, why))
    return refused


async def _ask(cluster: Cluster, store: Store, expand: Expand) -> str | None:
    """Why not, or None when the volume grows."""
    bound = log.bind(namespace=expand.key.namespace, volume=expand.key.name, size=expand.size)
    patch = {
        "metadata": {"uid": expand.uid},
        "spec": {"resources": {"requests": {"storage": expand.size}}},
    }
    try:
        store.put(PVC, await cluster.merge(expand.key, patch))
    except NotFoundError:
        return None  # Its end will be told by the watch.
    except ClusterError as error:
        if not error.permanent:
            raise
        bound.warning("the volume may not grow", cause=str(error))
        return error.said
    bound.info("the volume grows", before=expand.have)
    return None
