"""Generated credentials, written into the cluster: what is missing, never over what is there."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress

import structlog

from .cluster import Cluster
from .core import credentials as core
from .core.objects import SECRET, Key, Object, Owner
from .errors import ConflictError, SettingsError

log = structlog.get_logger(__name__)

_ATTEMPTS = 5


async def ensure(
    cluster: Cluster,
    instance: str,
    namespace: str,
    purposes: Iterable[str],
    known: Mapping[str, Object],
    *,
    owner: Owner | None = None,
    tie: bool = False,
    follows: Mapping[str, str] | None = None,
) -> list[Object]:
    """Make and complete the Secrets of ``purposes``; returns those that were written.

    ``known`` are the Secrets already seen, by name, their values left out: when they are all
    that is needed, the API server is not asked at all. ``follows`` names, by purpose, Secrets
    of the user's to copy a value from.

    Raises:
        ConflictError: someone changed one of them meanwhile.
        ClusterError: the API server refused or did not answer.
    """
    wanted = list(purposes)
    brought: dict[str, str | None] = {}

    def todo(observed: Mapping[str, Object]) -> list[core.Create | core.Amend]:
        token = secrets.token_urlsafe
        return core.plan(
            instance, namespace, wanted, observed, token, owner=owner, tie=tie, brought=brought
        )

    pending = todo(known)
    if not pending:
        return []
    if not follows and not known:
        with suppress(ConflictError):  # There is something all the same: look at it.
            made = [a for a in pending if isinstance(a, core.Create)]
            return await _written(cluster, namespace, made)
    for purpose, name in (follows or {}).items():
        theirs = await cluster.get(Key(SECRET, namespace, name))
        brought[purpose] = core.brought_value(purpose, theirs)
    # Only now are the values needed: what is there decides what fits beside it.
    keys = [Key(SECRET, namespace, action.name) for action in pending]
    live = await asyncio.gather(*(cluster.get(key) for key in keys))
    seen = {n: o for n, o in known.items() if n not in {k.name for k in keys}}
    seen |= {k.name: o for k, o in zip(keys, live, strict=True) if o is not None}
    return await _written(cluster, namespace, todo(seen))


async def _written(
    cluster: Cluster, namespace: str, actions: Iterable[core.Create | core.Amend]
) -> list[Object]:
    written = []
    for action in actions:
        key = Key(SECRET, namespace, action.name)
        if isinstance(action, core.Create):
            written.append(await cluster.create(key, action.obj))
        else:
            written.append(await cluster.merge(key, action.patch))
        log.info("credentials written", namespace=namespace, secret=action.name)
    return written


async def ensure_all(
    cluster: Cluster,
    instance: str,
    namespace: str,
    follows: Mapping[str, str],
    only: Collection[str] = core.ALL,
) -> list[str]:
    """Without an operator: the Secrets of the instance; returns the names of those written.

    ``only``: their purposes; what is brought from outside has no Secret of ours.

    Raises:
        SettingsError: a Secret to copy a value from is not there, or lacks its entry.
        ClusterError: the API server refused or did not answer.
    """
    follows = {purpose: name for purpose, name in follows.items() if purpose in only}
    for attempt in range(_ATTEMPTS):
        try:
            written = await ensure(cluster, instance, namespace, only, {}, follows=follows)
        except ConflictError:
            if attempt == _ATTEMPTS - 1:
                raise
            continue
        for purpose, name in follows.items():
            key = Key(SECRET, namespace, core.secret_name(instance, purpose))
            if await cluster.get(key) is None:
                raise SettingsError(
                    f"Secret/{name} in {namespace} is not there or has no entry "
                    f"{core.BROUGHT_ENTRY[purpose]}: create it, then install again."
                )
        return [o["metadata"]["name"] for o in written]
    return []
