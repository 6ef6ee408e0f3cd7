"""Rotations as a part of the reconcile: for which MetisRAG, and when to look again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import structlog

from . import metrics
from .alarm import Alarm
from .cluster import Cluster
from .core import credentials
from .core.conditions import Phase
from .core.manifests import mounted_secrets
from .core.objects import SECRET, Object, annotations_of, is_going, of_kind
from .errors import ClusterError
from .observe import Instance, Store
from .rotation import Rotator
from .rotation_subject import Subject, follows_of, requests_of, rules_of
from .run import Run

log = structlog.get_logger(__name__)

_AFTER_FAILURE = 1.0


class Rotations:
    """Carries the rotations of one MetisRAG after the other on; ``wake`` asks for a reconcile.

    ``defaults`` are the chart's own values: the intervals that hold where a spec says nothing.
    """

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        defaults: Mapping[str, Any],
        wake: Callable[[Instance], None],
    ) -> None:
        self._store = store
        self._rotator = Rotator(cluster)
        self._defaults = defaults
        self._alarm = Alarm(wake)

    async def carry_on(self, run: Run, values: Mapping[str, Any]) -> None:
        """A few steps, where there is something to do; a failure delays it and nothing else."""
        if run.stalls or run.waits:
            return
        subject = Subject(
            instance=run.owner.name,
            namespace=run.owner.namespace,
            about=run.resource,
            owner=run.owner,
            rules=rules_of(values, self._defaults, run.owner.uid),
            follows=follows_of(values),
            only=credentials.wanted(run.owner.name, mounted_secrets(run.desired.values())),
            requests=requests_of(annotations_of(run.resource)),
            able=run.before.get("phase") == Phase.READY and run.is_seen,
            suspended=bool(values.get("suspend")),
        )
        secrets = own_secrets(self._store, run.instance)
        named = {p: credentials.secret_name(run.owner.name, p) for p in credentials.ALL}
        known = {p: secrets[name] for p, name in named.items() if name in secrets}
        try:
            run.rotation = await self._rotator.advance(subject, known)
        except ClusterError as error:
            log.info("rotation delayed", metisrag=str(run.instance), cause=str(error))
            self._alarm.set(run.instance, _AFTER_FAILURE)
            return
        soonest = min((r.again for r in run.rotation if r.again is not None), default=None)
        if soonest is not None:
            self._alarm.set(run.instance, soonest)

    def forget(self, instance: Instance) -> None:
        """The MetisRAG has gone: its credentials are no longer told of."""
        metrics.forget_rotated(instance.namespace, instance.name, credentials.ALL)
        self._alarm.forget(instance)

    async def close(self) -> None:
        """Wake nobody any more, and close the connections to pods."""
        self._alarm.close()
        await self._rotator.close()


def own_secrets(store: Store, instance: Instance) -> dict[str, Object]:
    """The instance's own Secrets that are known, by name, without their values."""
    found = of_kind(store.children(instance), SECRET)
    return {k.name: o for k, o in found.items() if not is_going(o)}
