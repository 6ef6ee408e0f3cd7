"""The values of a credential in its Secret, and the writes that carry a rotation on.

The key of the Mem0 server is one value; a database login is a user name and a password. What a
pod mounts never shows a revoked value: the Mem0 server takes every file without a leading dot.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from . import credentials, names
from .credentials import MEM0_DB, MEM0_KEY, METIS_DB
from .objects import Object, annotations_of, labels_of, meta_of
from .rotation import Begin, Finish, Held, Phase, Revoke, Switch

PREFIX = "rotation.metisrag.dev"
PHASE = f"{PREFIX}/phase"
BEGAN = f"{PREFIX}/began"
PHASE_SINCE = f"{PREFIX}/phase-since"
ROTATED = f"{PREFIX}/rotated"
URGENT = f"{PREFIX}/revoke-now"
HANDLED = f"{PREFIX}/request"
OUTCOME = f"{PREFIX}/outcome"
FINISHED = f"{PREFIX}/finished"
# On pods: any change of it makes the kubelet look at what they mount.
REFRESHED = f"{PREFIX}/refreshed"

ROTATED_PURPOSES = (MEM0_KEY, MEM0_DB, METIS_DB)
CURRENT, NEXT, PREVIOUS, REVOKED = "current", "next", "previous", "revoked"
SLOTS = (CURRENT, NEXT, PREVIOUS, REVOKED)

Token = Callable[[int], str]
Change = Begin | Switch | Revoke | Finish


def keys_of(purpose: str, slot: str) -> tuple[str, ...]:
    """The Secret's keys that hold ``slot``."""
    if purpose == MEM0_KEY:
        return (f".{slot}" if slot == REVOKED else slot,)
    prefix = "" if slot == CURRENT else f"{slot}-"
    return (f"{prefix}username", f"{prefix}password")


def fingerprint(*values: str) -> str:
    """The first 12 hex digits of the SHA-256 of the values, a line each."""
    return hashlib.sha256("\n".join(values).encode()).hexdigest()[:12]


def values_of(purpose: str, slot: str, data: Mapping[str, str]) -> tuple[str, ...] | None:
    """The decoded values of a slot; None when it is empty."""
    keys = keys_of(purpose, slot)
    if not all(k in data for k in keys):
        return None
    return tuple(base64.b64decode(data[k]).decode(errors="replace").strip() for k in keys)


def held(purpose: str, secret: Mapping[str, Any]) -> Held | None:
    """What the Secret holds, by fingerprint; None when it lacks the current value."""
    data = secret.get("data") or {}
    found = {slot: values_of(purpose, slot, data) for slot in SLOTS}
    current = found[CURRENT]
    if current is None:
        return None
    rest = {s: fingerprint(*v) for s, v in found.items() if v is not None and s != CURRENT}
    return Held(fingerprint(*current), **rest)


def held_of(secret: Mapping[str, Any]) -> Held | None:
    """As ``held``, of a Secret of any purpose; None for one that is not rotated."""
    name = str(meta_of(secret).get("name", ""))
    instance = labels_of(secret).get(names.LABEL_INSTANCE, "")
    purpose = credentials.purpose_of(instance, name)
    return held(purpose, secret) if purpose in ROTATED_PURPOSES and purpose else None


def fingerprint_with(purpose: str, secret: Mapping[str, Any], value: str) -> str:
    """The fingerprint that the current credential would have if ``value`` were its secret part."""
    current = values_of(purpose, CURRENT, secret.get("data") or {}) or ("",)
    return fingerprint(*current[:-1], value)


def apply(
    step: Change,
    purpose: str,
    secret: Mapping[str, Any],
    now: str,
    token: Token,
    brought: str = "",
) -> Object:
    """The merge patch that carries out ``step``; it conflicts with any other change.

    ``now`` is RFC 3339; ``brought`` the value to copy where the step says so.
    """
    data: dict[str, str | None] = {}
    notes: dict[str, str | None] = {PHASE_SINCE: now}
    if isinstance(step, Begin):
        secret_value = brought if step.brought else credentials.secret_value(purpose, token)
        new = _fresh(purpose, secret, secret_value)
        notes |= {BEGAN: now, OUTCOME: None, FINISHED: None}
        if step.request is not None:
            notes[HANDLED] = step.request.token
            notes[URGENT] = "true" if step.request.revoke_now else None
        if step.at_once:
            data |= _move(purpose, secret, CURRENT, REVOKED) | _put(purpose, CURRENT, new)
            notes |= {PHASE: Phase.REVOKING, ROTATED: now}
        else:
            data |= _put(purpose, NEXT, new)
            notes[PHASE] = Phase.PREPARING
    elif isinstance(step, Switch):
        data |= _move(purpose, secret, CURRENT, PREVIOUS) | _move(purpose, secret, NEXT, CURRENT)
        notes |= {PHASE: Phase.SWITCHING, ROTATED: now}
    elif isinstance(step, Revoke):
        data |= _move(purpose, secret, PREVIOUS, REVOKED)
        notes[PHASE] = Phase.REVOKING
    else:
        data |= dict.fromkeys(keys_of(purpose, REVOKED))
        notes |= {PHASE: None, PHASE_SINCE: None, URGENT: None}
        notes |= {FINISHED: now, OUTCOME: "Succeeded"}
    meta = meta_of(secret)
    return {
        "metadata": {
            "uid": meta.get("uid"),
            "resourceVersion": meta.get("resourceVersion"),
            "annotations": {k: v for k, v in notes.items() if annotations_of(secret).get(k) != v},
        },
        "data": data,
    }


def live_keys(secret: Mapping[str, Any]) -> list[str]:
    """The Mem0 keys that may open a pod's status, the current one in front."""
    data = secret.get("data") or {}
    found = (values_of(MEM0_KEY, slot, data) for slot in SLOTS)
    return [values[0] for values in found if values is not None]


def _fresh(purpose: str, secret: Mapping[str, Any], value: str) -> tuple[str, ...]:
    """The values of a new credential; a database gets the login role that is not in use."""
    if purpose == MEM0_KEY:
        return (value,)
    current = values_of(purpose, CURRENT, secret.get("data") or {})
    user = current[0] if current else ""
    return (credentials.other_role(purpose, user), value)


def _put(purpose: str, slot: str, values: tuple[str, ...]) -> dict[str, str | None]:
    encoded = (base64.b64encode(v.encode()).decode() for v in values)
    return dict(zip(keys_of(purpose, slot), encoded, strict=True))


def _move(
    purpose: str, secret: Mapping[str, Any], source: str, target: str
) -> dict[str, str | None]:
    data = secret.get("data") or {}
    pairs = list(zip(keys_of(purpose, source), keys_of(purpose, target), strict=True))
    return {s: None for s, _ in pairs} | {t: data[s] for s, t in pairs}
