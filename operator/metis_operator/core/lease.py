"""Who leads: what a Lease says, and what to write into it.

Clocks of several machines are never compared. A candidate counts, by its own clock, how long the
Lease has stood unchanged; the holder stops by its own clock before anybody else may start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .objects import LEASE, Key, Object, meta_of


@dataclass(frozen=True)
class Terms:
    """Durations in seconds.

    A Lease unchanged for ``duration`` is free. Its holder renews it every ``interval``, as often
    others look at it, and gives up ``deadline`` after the last renewal that succeeded. Whoever
    holds it may so be gone for ``duration`` plus twice ``interval`` before another one leads.
    """

    duration: int = 10
    deadline: float = 7.5
    interval: float = 1.5


def is_free(lease: Mapping[str, Any] | None, identity: str, unchanged: float) -> bool:
    """Whether ``identity`` may take ``lease``, which has stood as it is for so many seconds.

    One's own Lease is free too: a container that was restarted in its pod goes on at once.
    """
    if lease is None:
        return True
    holder = holder_of(lease)
    return holder in ("", identity) or unchanged >= _duration(lease)


def holder_of(lease: Mapping[str, Any]) -> str:
    """The identity that holds ``lease``; empty when it was released."""
    return str((lease.get("spec") or {}).get("holderIdentity") or "")


def taken(
    key: Key, lease: Mapping[str, Any] | None, identity: str, terms: Terms, now: str
) -> Object:
    """The Lease to write so that ``identity`` holds it from ``now`` (RFC 3339, microseconds).

    It carries the resource version of ``lease``, so that of two who write only one succeeds.
    """
    before = dict((lease or {}).get("spec") or {})
    same = lease is not None and holder_of(lease) == identity
    transitions = int(before.get("leaseTransitions") or 0)
    return _written(key, lease) | {
        "spec": {
            "holderIdentity": identity,
            "leaseDurationSeconds": terms.duration,
            "acquireTime": before.get("acquireTime", now) if same else now,
            "renewTime": now,
            "leaseTransitions": transitions if same or lease is None else transitions + 1,
        }
    }


def released(key: Key, lease: Mapping[str, Any], now: str) -> Object:
    """The Lease to write so that nobody holds it and the next one need not wait."""
    spec = {**(lease.get("spec") or {}), "holderIdentity": "", "renewTime": now}
    return _written(key, lease) | {"spec": spec}


def _written(key: Key, lease: Mapping[str, Any] | None) -> Object:
    meta = {"name": key.name, "namespace": key.namespace}
    if lease is not None:
        meta["resourceVersion"] = str(meta_of(lease).get("resourceVersion", ""))
    return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "metadata": meta}


def _duration(lease: Mapping[str, Any]) -> float:
    return float((lease.get("spec") or {}).get("leaseDurationSeconds") or 0)
