"""Rotations without an operator: a Job in the instance's namespace carries on what is due.

It may be ended at any moment: what it leaves half-done, the next one ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping

import structlog

from .cluster import Cluster
from .core import credentials, slots
from .core.objects import SECRET, Key, Object
from .core.rotation import Phase, Request
from .core.schedule import Rules
from .errors import ClusterError, MetisOperatorError
from .rotation import Rotator
from .rotation_report import Report
from .rotation_subject import Subject

log = structlog.get_logger(__name__)

_AFTER_TROUBLE = 2.0


class RotationWaitsError(MetisOperatorError):
    """A rotation does not go on; both credentials keep working."""


async def rotate(
    cluster: Cluster,
    instance: str,
    namespace: str,
    *,
    rules: Mapping[str, Rules],
    follows: Mapping[str, str],
    requests: Mapping[str, Request],
    limit: float,
    only: Collection[str] = slots.ROTATED_PURPOSES,
) -> list[str]:
    """Rotate what is asked for or due, and end what is under way; what was rotated.

    Gives up after ``limit`` seconds. ``only``: what the instance has of its own.

    Raises:
        RotationWaitsError: a rotation did not end in time; the message says what it waits for.
        ClusterError: the API server refused or did not answer, for so long.
    """
    end = time.monotonic() + limit
    rotator = Rotator(cluster)
    moved: list[str] = []
    try:
        while True:
            late = time.monotonic() > end
            reports: list[Report] = []
            known: dict[str, Object] = {}
            try:
                known = await _known(cluster, instance, namespace, only)
                about = next(iter(known.values()), None)
                if about is None:
                    raise RotationWaitsError(
                        f"Instance {instance} in namespace {namespace} has no credentials to "
                        "rotate: is that its name?"
                    )
                subject = Subject(
                    instance,
                    namespace,
                    about,
                    rules=rules,
                    follows=follows,
                    only=only,
                    requests=requests,
                )
                reports = await rotator.advance(subject, known)
            except ClusterError as error:
                if late or error.permanent:
                    raise
                log.warning("trying again", cause=str(error))
            moved += [r.purpose for r in reports if r.held != known[r.purpose]["held"]]
            active = [r for r in reports if r.again is not None and _is_active(r, follows)]
            if reports and not active:
                return sorted(set(moved))
            if late:
                said = " ".join(r.trouble for r in active) or "It goes on with the next run."
                raise RotationWaitsError(f"Not finished within {limit:.0f} s. {said}")
            await asyncio.sleep(min((r.again or 0 for r in active), default=_AFTER_TROUBLE))
    finally:
        await rotator.close()


def _is_active(report: Report, follows: Mapping[str, str]) -> bool:
    """Whether there is more to do now: it is under way, or was begun or held up just now."""
    return report.held.phase is not Phase.IDLE or (
        report.again is not None and report.again < 1 and report.purpose not in follows
    )


async def _known(
    cluster: Cluster, instance: str, namespace: str, only: Collection[str]
) -> dict[str, Object]:
    known = {}
    for purpose in only:
        key = Key(SECRET, namespace, credentials.secret_name(instance, purpose))
        found = await cluster.get(key)
        held = slots.held(purpose, found or {})
        if found is not None and held is not None:
            known[purpose] = {**found, "held": held}
    return known
