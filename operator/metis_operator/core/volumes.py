"""Volumes: which of them grow, and what of a spec their nature does not admit.

A StatefulSet's claim template is but the pattern of volumes to come; what holds data are the
claims. A claim may grow, where its storage class allows that, and stays otherwise what it is. So
the template is changed only when the claims have become what it says. A size smaller than a
volume's (one that was adopted, or a default that was lowered) leaves the volume alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .compare import quantity
from .conditions import Stall
from .health import values_key
from .manifests import component_of
from .objects import PVC, STATEFUL_SET, Key, Object, is_going, of_kind, uid_of
from .values import get

EXPANSION_REFUSED, CLASS_IMMUTABLE = "VolumeExpansionRefused", "StorageClassImmutable"


@dataclass(frozen=True)
class Expand:
    """Ask for ``size`` where a bound claim has ``have``; ``setting`` is the spec's field for it."""

    key: Key
    uid: str
    size: str
    have: str
    storage_class: str
    setting: str

    def refused(self, why: str) -> Stall:
        """What to tell when the cluster refuses, which it does with the words ``why``."""
        return Stall(
            EXPANSION_REFUSED,
            f"Volume {self.key.name} stays at {self.have} instead of {self.size} (storage class "
            f"{self.storage_class or 'none'}): {why.rstrip('.')}. Set spec.{self.setting} back to "
            f"{self.have}, or have the class allow volume expansion.",
        )


def growth(desired: Mapping[Key, Object], observed: Mapping[Key, Object]) -> list[Expand]:
    """The bound claims that are smaller than ``desired`` has them."""
    found = []
    for obj, template, key, claim in _bound(desired, observed):
        size, have = _size(template), _size(claim)
        if _number(size) > _number(have):
            setting = f"{values_key(component_of(obj))}.storage.size"
            found.append(Expand(key, uid_of(claim), size, have, _class(claim), setting))
    return sorted(found, key=lambda e: e.key.name)


def is_asked_for(expand: Expand, spec: Mapping[str, Any]) -> bool:
    """Whether the MetisRAG's own ``spec`` asks for that size, rather than a default under it."""
    return get(spec, expand.setting) is not None


def immovable(
    desired: Mapping[Key, Object], observed: Mapping[Key, Object], spec: Mapping[str, Any]
) -> list[Stall]:
    """What the MetisRAG's own ``spec`` asks of volumes that cannot be done."""
    stalls = []
    for obj, template, key, claim in _bound(desired, observed):
        setting = f"{values_key(component_of(obj))}.storage.className"
        wanted, have = get(spec, setting), _class(claim)
        if wanted and wanted == _class(template) and wanted != have:
            message = (
                f"Volume {key.name} has the storage class {have or 'none'}, which cannot become "
                f"{wanted}. Set spec.{setting} to {have}; or make a new MetisRAG and move the data."
            )
            stalls.append(Stall(CLASS_IMMUTABLE, message))
    return stalls


def pinned(desired: Mapping[Key, Object], observed: Mapping[Key, Object]) -> dict[Key, Object]:
    """``desired``, its claim templates left as they are live where the claims do not match."""
    result = dict(desired)
    for obj, template, _, claim in _bound(desired, observed):
        key = _key_of(obj)
        live = observed.get(key)
        if live is None or is_going(live):
            continue
        pattern = next((t for t in _templates(live) if _name(t) == _name(template)), None)
        if pattern is None:
            continue
        held = copy.deepcopy(result[key])
        spec = next(t for t in _templates(held) if _name(t) == _name(template))["spec"]
        if _number(_size(template)) != _number(_size(claim)):
            spec["resources"]["requests"]["storage"] = _size(pattern)
        if _class(template) and _class(template) != _class(claim):
            spec.pop("storageClassName")
            if _class(pattern):
                spec["storageClassName"] = _class(pattern)
        result[key] = held
    return result


def _bound(
    desired: Mapping[Key, Object], observed: Mapping[Key, Object]
) -> Iterator[tuple[Object, Object, Key, Object]]:
    """StatefulSet, claim template, and key and claim of each bound claim made by that template."""
    claims = {k: o for k, o in of_kind(observed, PVC).items() if not is_going(o)}
    for key, obj in desired.items():
        if key.kind is not STATEFUL_SET:
            continue
        for template in _templates(obj):
            stem = f"{_name(template)}-{key.name}-"
            for claim_key, claim in claims.items():
                rest = claim_key.name.removeprefix(stem)
                is_bound = (claim.get("status") or {}).get("phase") == "Bound"
                if is_bound and rest != claim_key.name and rest.isdigit():
                    yield obj, template, claim_key, claim


def _key_of(obj: Mapping[str, Any]) -> Key:
    return Key(STATEFUL_SET, obj["metadata"]["namespace"], obj["metadata"]["name"])


def _templates(stateful_set: Mapping[str, Any]) -> list[Object]:
    return list((stateful_set.get("spec") or {}).get("volumeClaimTemplates") or ())


def _name(template: Mapping[str, Any]) -> str:
    return str(template["metadata"]["name"])


def _size(claim: Mapping[str, Any]) -> str:
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests") or {}
    return str(requests.get("storage", "0"))


def _number(size: str) -> Any:
    return quantity(size) or 0


def _class(claim: Mapping[str, Any]) -> str:
    return str((claim.get("spec") or {}).get("storageClassName") or "")
