"""Whose credentials are rotated, and what is wanted of them: from values and annotations."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from .core import names, slots
from .core.credentials import MEM0_DB, MEM0_KEY, METIS_DB
from .core.objects import Object, Owner
from .core.rotation import Request
from .core.schedule import Rules
from .core.values import get, merge

# Where the values name a Secret to follow, and say how often to rotate.
_PARTS = {MEM0_KEY: "mem0", METIS_DB: "metisPostgres", MEM0_DB: "mem0Postgres"}
_RULES = {MEM0_KEY: "mem0Key", METIS_DB: "metisDb", MEM0_DB: "mem0Db"}


@dataclass(frozen=True)
class Subject:
    """Whose credentials they are, and what is wanted of them, by purpose."""

    instance: str
    namespace: str
    about: Object
    """What events are about: the MetisRAG, or without an operator the Secrets themselves."""
    owner: Owner | None = None
    rules: Mapping[str, Rules] = field(default_factory=dict)
    follows: Mapping[str, str] = field(default_factory=dict)
    """Names of the user's own Secrets."""
    only: Collection[str] = slots.ROTATED_PURPOSES
    """What the instance has of its own; the rest is brought from outside."""
    requests: Mapping[str, Request] = field(default_factory=dict)
    able: bool = True
    suspended: bool = False


def follows_of(values: Mapping[str, Any]) -> dict[str, str]:
    """The Secrets that the values name to be followed, by purpose."""
    named = {p: str(get(values, f"{path}.existingSecret") or "") for p, path in _PARTS.items()}
    return {purpose: name for purpose, name in named.items() if name}


def rules_of(values: Mapping[str, Any], defaults: Mapping[str, Any], uid: str) -> dict[str, Rules]:
    """When each credential is rotated, by the values; ``uid`` is that of their object."""
    rotation = merge(defaults, values).get("rotation") or {}
    return {p: Rules.of(rotation.get(key), f"{uid}/{p}") for p, key in _RULES.items()}


def requests_of(annotations: Mapping[str, str]) -> dict[str, Request]:
    """What the annotations of a MetisRAG ask for: ``rotate.metisrag.dev/COMPONENT``."""
    found = {}
    for purpose in slots.ROTATED_PURPOSES:
        text = annotations.get(f"{names.ROTATE_PREFIX}/{purpose}", "").strip()
        if text:
            found[purpose] = Request(text, revoke_now=text.endswith(names.REVOKE_NOW))
    return found
