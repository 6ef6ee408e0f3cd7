"""JSON merge patches (RFC 7386): null takes out, objects are merged, lists are replaced whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def patched(value: Any, patch: Any) -> Any:
    """``value`` after ``patch``."""
    if not isinstance(patch, Mapping):
        return patch
    found = dict(value) if isinstance(value, Mapping) else {}
    for key, change in patch.items():
        if change is None:
            found.pop(key, None)
        else:
            found[key] = patched(found.get(key), change)
    return found


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The patch that turns ``before`` into ``after``; empty when they are equal."""
    changed = {
        k: between(former, v) if isinstance(v, Mapping) and isinstance(former, Mapping) else v
        for k, v in after.items()
        if (former := before.get(k)) != v
    }
    return changed | {k: None for k in before if k not in after}


def three_way(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The patch of ``kubectl apply``: what a file says now, less what it said before."""
    patch: dict[str, Any] = {k: None for k in before if k not in after}
    for key, value in after.items():
        former = before.get(key)
        if isinstance(value, Mapping):
            patch[key] = three_way(former if isinstance(former, Mapping) else {}, value)
        else:
            patch[key] = value
    return patch
