"""The generated credentials of an instance: which there are, and what is missing of them.

They are made once and kept: a key that exists is never changed here. ``token`` is the random
source, passed in: ``token(32)`` gives 32 random bytes as 43 URL-safe characters.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import check, names
from .objects import SECRET, Object, Owner, annotations_of, labels_of, meta_of, uid_of

Token = Callable[[int], str]

METIS_DB = "metis-db"
MEM0_DB = "mem0-db"
MEM0_KEY = "mem0-key"
AUTH = "auth"
ALL = (METIS_DB, MEM0_DB, MEM0_KEY, AUTH)

_COMPONENT = {
    METIS_DB: names.METIS_POSTGRES,
    MEM0_DB: names.MEM0_POSTGRES,
    MEM0_KEY: names.MEM0,
    AUTH: names.APP,
}
# A database has two login roles, of which one is in use; rotation goes from one to the other.
_LOGIN_ROLES = {METIS_DB: ("metis_app_a", "metis_app_b"), MEM0_DB: ("mem0_app_a", "mem0_app_b")}
# The key of the user that checks speak as (`helm test`), so that nobody's memory is touched.
CHECK_KEY = "test-key"
_KEYS = {
    METIS_DB: ("username", "password", "superuser-password"),
    MEM0_DB: ("username", "password", "superuser-password"),
    MEM0_KEY: ("current",),
    AUTH: ("admin-user", "admin-key", CHECK_KEY, "keys.json"),
}
# The entry that is read from a Secret that somebody brings.
BROUGHT_ENTRY = {MEM0_KEY: "api-key", METIS_DB: "password", MEM0_DB: "password"}
ADMIN = "admin"
# An Argo CD that tracks by label takes whatever carries an instance's name for its own, and removes
# what its application does not render: it is told to leave these alone.
_NOTES = {
    "argocd.argoproj.io/compare-options": "IgnoreExtraneous",
    "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
}


def secret_name(instance: str, purpose: str) -> str:
    """The name of the Secret that serves ``purpose`` (one of ``ALL``)."""
    return f"{instance}-{purpose}"


def purpose_of(instance: str, name: str) -> str | None:
    """The purpose of the generated Secret ``name``, or None when it is not one of ours."""
    return next((p for p in ALL if secret_name(instance, p) == name), None)


def wanted(instance: str, mounted: Collection[str]) -> list[str]:
    """The purposes whose generated Secret is among the ``mounted`` ones: what is brought from
    outside in place of a part has none."""
    return [p for p in ALL if secret_name(instance, p) in mounted]


def keys_of(purpose: str) -> tuple[str, ...]:
    """The keys that the Secret of ``purpose`` must hold."""
    return _KEYS[purpose]


@dataclass(frozen=True)
class Create:
    """Make a Secret that is not there."""

    name: str
    obj: Object


@dataclass(frozen=True)
class Amend:
    """Merge ``patch`` into a Secret; ``resource_version`` guards what it already holds."""

    name: str
    patch: Object


def plan(
    instance: str,
    namespace: str,
    purposes: Iterable[str],
    observed: Mapping[str, Mapping[str, Any]],
    token: Token,
    *,
    owner: Owner | None = None,
    tie: bool = False,
    brought: Mapping[str, str | None] | None = None,
) -> list[Create | Amend]:
    """What to write so that every Secret of ``purposes`` is there and complete.

    ``brought`` gives the value to copy for purposes that follow a Secret of the user's; while
    that is None, their own Secret is not made.

    ``observed`` holds the Secrets that exist, by name (of their values only the keys matter).
    With ``tie`` they get ``owner`` as their owner, so that they go with it; without, a
    reference to it is taken away and they outlive it.
    """
    actions: list[Create | Amend] = []
    for purpose in purposes:
        name = secret_name(instance, purpose)
        live = observed.get(name)
        value = (brought or {}).get(purpose, "")
        if live is None and value is None:
            continue
        if live is None:
            obj = _secret(instance, namespace, purpose, token, value or "")
            if owner is not None and tie:
                obj["metadata"]["ownerReferences"] = [owner.reference]
            actions.append(Create(name, obj))
        else:
            patch = _amendment(instance, purpose, live, token, owner, tie=tie)
            if patch:
                actions.append(Amend(name, patch))
    return actions


def fresh(purpose: str, token: Token, brought: str = "") -> dict[str, str]:
    """New values for every key of ``purpose``, the secret part being ``brought`` where given."""
    if purpose in _LOGIN_ROLES:
        return {
            "username": _LOGIN_ROLES[purpose][0],
            "password": brought or secret_value(purpose, token),
            "superuser-password": token(32),
        }
    if purpose == MEM0_KEY:
        return {"current": brought or secret_value(purpose, token)}
    key, check_key = f"metis_{token(32)}", f"metis_{token(32)}"
    entries = [key_entry(ADMIN, "admin", key), key_entry(check.USER, "user", check_key)]
    return {
        "admin-user": ADMIN,
        "admin-key": key,
        CHECK_KEY: check_key,
        "keys.json": json.dumps({"keys": entries}),
    }


def secret_value(purpose: str, token: Token) -> str:
    """A new value for the secret part of what is rotated: a key, or a password."""
    return f"mk_{token(32)}" if purpose == MEM0_KEY else token(32)


def brought_value(purpose: str, secret: Mapping[str, Any] | None) -> str | None:
    """The value in a Secret that somebody brings for ``purpose``; None when it holds none."""
    entry = BROUGHT_ENTRY[purpose]
    encoded = ((secret or {}).get("data") or {}).get(entry)
    return (_decode(encoded).strip() or None) if encoded else None


def other_role(purpose: str, user: str) -> str:
    """The login role of the database that is not ``user``."""
    first, second = _LOGIN_ROLES[purpose]
    return second if user == first else first


def key_entry(user: str, role: str, key: str) -> dict[str, str]:
    """A user's line in the app's key file: the key's hash only."""
    return {"user": user, "role": role, "sha256": hashlib.sha256(key.encode()).hexdigest()}


def labels(instance: str, purpose: str) -> dict[str, str]:
    """The labels that the Secret of ``purpose`` carries."""
    return {
        **names.selector_labels(instance, _COMPONENT[purpose]),
        names.LABEL_PART_OF: names.PRODUCT,
        names.LABEL_MANAGED_BY: names.FIELD_MANAGER,
        names.LABEL_CREDENTIALS: "true",
    }


def _secret(instance: str, namespace: str, purpose: str, token: Token, brought: str = "") -> Object:
    return {
        "apiVersion": SECRET.api_version,
        "kind": SECRET.kind,
        "metadata": {
            "name": secret_name(instance, purpose),
            "namespace": namespace,
            "labels": labels(instance, purpose),
            "annotations": dict(_NOTES),
        },
        "type": "Opaque",
        "data": _encode(fresh(purpose, token, brought)),
    }


def _amendment(
    instance: str,
    purpose: str,
    live: Mapping[str, Any],
    token: Token,
    owner: Owner | None,
    *,
    tie: bool,
) -> Object:
    patch: Object = {}
    meta: Object = {}
    missing = _missing(purpose, live.get("data") or {})
    values = _missing_values(purpose, missing, live.get("data") or {}, token) if missing else {}
    if values:
        patch["data"] = _encode(values)
    wanted = labels(instance, purpose)
    if any(labels_of(live).get(k) != v for k, v in wanted.items()):
        meta["labels"] = wanted
    if not annotations_of(live).keys() >= _NOTES.keys():
        meta["annotations"] = _NOTES | {
            k: v for k, v in annotations_of(live).items() if k in _NOTES
        }
    if owner is not None:
        references = list(meta_of(live).get("ownerReferences") or [])
        others = [r for r in references if r.get("kind") != names.KIND]
        wanted_references = [*others, owner.reference] if tie else others
        if references != wanted_references:
            meta["ownerReferences"] = wanted_references
    if meta or patch:
        meta["uid"] = uid_of(live)
        meta["resourceVersion"] = meta_of(live).get("resourceVersion")
        patch["metadata"] = meta
    return patch


def _missing(purpose: str, data: Mapping[str, Any]) -> list[str]:
    # Someone's own key file is complete as it is: no key can be guessed that fits its hashes. One
    # of ours gets the user of checks, which first came with a later version.
    if purpose == AUTH and "keys.json" in data:
        return [CHECK_KEY] if "admin-key" in data and CHECK_KEY not in data else []
    return [k for k in _KEYS[purpose] if k not in data]


def _missing_values(
    purpose: str, missing: list[str], data: Mapping[str, Any], token: Token
) -> dict[str, str]:
    """Values for the missing keys that fit those which are there; none where none can."""
    values = fresh(purpose, token)
    if purpose == AUTH and "keys.json" in data:
        return _with_check_key(_decode(data["keys.json"]), values[CHECK_KEY])
    if purpose == AUTH and "admin-key" in data:
        user = _decode(data["admin-user"]) if "admin-user" in data else ADMIN
        check_key = _decode(data[CHECK_KEY]) if CHECK_KEY in data else values[CHECK_KEY]
        entries = [
            key_entry(user, "admin", _decode(data["admin-key"])),
            key_entry(check.USER, "user", check_key),
        ]
        values["keys.json"] = json.dumps({"keys": entries})
    return {k: values[k] for k in missing}


def _with_check_key(text: str, key: str) -> dict[str, str]:
    """The key file with the user of checks beside its own; nothing where it cannot be read."""
    try:
        entries = list(json.loads(text or '{"keys": []}')["keys"])
    except (ValueError, KeyError, TypeError):
        return {}
    entries.append(key_entry(check.USER, "user", key))
    return {CHECK_KEY: key, "keys.json": json.dumps({"keys": entries})}


def _encode(values: Mapping[str, str]) -> dict[str, str]:
    return {k: base64.b64encode(v.encode()).decode() for k, v in values.items()}


def _decode(value: str) -> str:
    return base64.b64decode(value).decode()
