"""What to do so that the cluster holds what is wanted: a pure function of what is and what should.

A plan that was carried out leaves an empty one. No plan ever deletes a PersistentVolumeClaim or
a Secret: they hold what cannot be rendered again.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .compare import Difference, differences
from .manifests import digest_of
from .objects import (
    PVC,
    SECRET,
    STATEFUL_SET,
    Key,
    Object,
    Owner,
    is_going,
    meta_of,
    of_kind,
    uid_of,
)

# A StatefulSet accepts changes of all its fields but these.
_IMMUTABLE = ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates")


@dataclass(frozen=True)
class Apply:
    """Server-side apply ``obj``; ``reason`` says why, for the log."""

    key: Key
    obj: Object = field(compare=False)
    reason: str = field(compare=False)


@dataclass(frozen=True)
class Prune:
    """Delete an object that the spec no longer asks for, if it is still the one we looked at."""

    key: Key
    uid: str


@dataclass(frozen=True)
class Replace:
    """Delete a StatefulSet but keep its pods, so that it can be made anew around them."""

    key: Key
    uid: str
    differences: tuple[Difference, ...] = field(compare=False)


@dataclass(frozen=True)
class Keep:
    """Have the volumes of a StatefulSet outlive it, before it is deleted."""

    key: Key
    uid: str

    @property
    def patch(self) -> Object:
        """The merge patch that does it, if it is still the one we looked at."""
        policy = {"whenDeleted": "Retain"}
        return {
            "metadata": {"uid": self.uid},
            "spec": {"persistentVolumeClaimRetentionPolicy": policy},
        }


@dataclass(frozen=True)
class Conflict:
    """An object of a wanted name is somebody else's: it is not touched."""

    key: Key
    holder: str


Action = Apply | Prune | Replace | Keep | Conflict

# Differences that the API server insists on, by object: the digest that was applied, and what
# the server made of it. Applying again would change nothing.
Tolerated = Mapping[Key, tuple[str, frozenset[Difference]]]


def plan(
    desired: Mapping[Key, Object],
    observed: Mapping[Key, Object],
    inventory: Iterable[Key],
    owner: Owner,
    tolerated: Tolerated | None = None,
    *,
    keep_data: bool = True,
    settled: Container[Key] = (),
) -> list[Action]:
    """The actions that turn ``observed`` into ``desired``, in the order to carry them out.

    ``observed`` holds at least every live object of a desired or inventoried key, whoever owns
    it. ``inventory`` is what earlier runs applied. Objects that are on their way out are
    waited for: there is no action for them. With ``keep_data`` no volume goes with what is
    pruned, whatever was its policy when it was made. ``settled`` are keys for which an earlier
    plan of the same two objects had no action.
    """
    actions: list[Action] = []
    for key in sorted((k for k in desired if k not in settled), key=_order):
        live = observed.get(key)
        action = (
            Apply(key, desired[key], "it is missing")
            if live is None
            else _settle(key, desired[key], live, owner, (tolerated or {}).get(key))
        )
        if action is not None:
            actions.append(action)
    ours = {k for k in observed if k not in desired and owner.claims(observed[k])}
    leftovers = ours & (set(inventory) | {k for k in ours if digest_of(observed[k])})
    for key in sorted(leftovers, key=_order):
        if key.kind not in (PVC, SECRET) and not is_going(observed[key]):
            actions.extend(_remove(key, observed, keep_data=keep_data))
    return actions


def _remove(key: Key, observed: Mapping[Key, Object], *, keep_data: bool) -> Iterator[Prune | Keep]:
    """Prune the object; of a StatefulSet first let go of the volumes that are to stay.

    Its controller ties them to it, and unties them some time after the policy changed.
    """
    live = observed[key]
    if key.kind is STATEFUL_SET and keep_data:
        policy = (live.get("spec") or {}).get("persistentVolumeClaimRetentionPolicy") or {}
        if policy.get("whenDeleted") == "Delete":
            yield Keep(key, uid_of(live))
            return
        if any(_is_tied(claim, live) for claim in of_kind(observed, PVC).values()):
            return
    yield Prune(key, uid_of(live))


def _is_tied(claim: Mapping[str, Any], owner: Mapping[str, Any]) -> bool:
    references = meta_of(claim).get("ownerReferences") or ()
    return any(reference.get("uid") == uid_of(owner) for reference in references)


def remaining(want: Object, have: Mapping[str, Any]) -> frozenset[Difference]:
    """What still differs right after an apply: the server's own will, to be tolerated."""
    return frozenset(_frozen(d) for d in differences(want, have))


def _settle(
    key: Key,
    want: Object,
    have: Object,
    owner: Owner,
    tolerated: tuple[str, frozenset[Difference]] | None,
) -> Action | None:
    if not owner.claims(have):
        return Conflict(key, _holder(have))
    if is_going(have):
        return None
    digest = digest_of(want)
    found = differences(want, have)
    if tolerated is not None and tolerated[0] == digest:
        found = [d for d in found if _frozen(d) not in tolerated[1]]
    if not found:
        return None
    if key.kind is STATEFUL_SET:
        immutable = tuple(d for d in found if _is_immutable(d.path))
        if immutable:
            return Replace(key, uid_of(have), immutable)
    return Apply(key, want, "; ".join(str(d) for d in found[:3]))


def _is_immutable(path: str) -> bool:
    parts = re.split(r"[.\[]", path)
    return len(parts) > 1 and parts[0] == "spec" and parts[1] in _IMMUTABLE


def _frozen(difference: Difference) -> Difference:
    """The same difference with hashable values."""
    return Difference(difference.path, repr(difference.want), repr(difference.have))


def _order(key: Key) -> tuple[int, str, str]:
    return (key.kind.order, key.kind.kind, key.name)


def _holder(obj: Mapping[str, Any]) -> str:
    """Whose an object is, in words."""
    meta = obj.get("metadata") or {}
    for reference in meta.get("ownerReferences") or ():
        if reference.get("controller"):
            return f"{reference.get('kind')} {reference.get('name')}"
    labels = meta.get("labels") or {}
    manager = labels.get("app.kubernetes.io/managed-by")
    release = (meta.get("annotations") or {}).get("meta.helm.sh/release-name")
    if manager == "Helm" and release:
        return f"the Helm release {release}"
    if manager:
        return f"something managed by {manager}"
    return "someone else, without an owner"
