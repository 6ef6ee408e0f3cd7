"""From the spec of a MetisRAG to the values of the chart: the same vocabulary, key for key.

The operator adds only what the platform team wants under every spec (``merge``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid upon ``under``, maps merged key by key, anything else replaced whole.

    A ``None`` in ``over`` means "not set" and leaves what lies under it: an API server keeps
    no null in a spec either.
    """
    merged: dict[str, Any] = {k: _copy(v) for k, v in under.items()}
    for key, value in over.items():
        if value is None:
            continue
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = _copy(value)
    return merged


def get(values: Mapping[str, Any], path: str, default: Any = None) -> Any:
    """The value at a dotted ``path``, or ``default`` where a part of it is missing."""
    here: Any = values
    for part in path.split("."):
        if not isinstance(here, Mapping) or part not in here:
            return default
        here = here[part]
    return here


def brought(values: Mapping[str, Any]) -> set[str]:
    """The parts, by the keys of their values, that are brought from outside instead of made.

    The chart's own rule (``stack.isMade``), for whoever has a spec and no rendering at hand.
    """
    found = set()
    for part in ("metisPostgres", "mem0Postgres"):
        if get(values, f"{part}.external.url") or get(values, f"{part}.cloudNativePG.cluster"):
            found.add(part)
    if get(values, "mem0.external.url"):
        found |= {"mem0", "mem0Postgres"}
    openai = [get(values, f"models.openai.{use}.url") for use in ("chat", "embedding")]
    if get(values, "ollama.external.url") or all(openai):
        found.add("ollama")
    return found


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _copy(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(v) for v in value]
    return value
