"""What a MetisRAG's status tells of the indexes of its documents and of its memories. Pure.

The app tells how its index stands at ``/api/status/embedding``, the memory server at ``/status``;
they are asked only where a change of the embedding model is wanted, so an instance that changes
nothing costs nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from typing import Any

from . import names
from .health import Component
from .manifests import component_of, environment, find_component
from .objects import DEPLOYMENT, POD, Key, Object, is_going, of_kind
from .pods import EMBEDDING_REFUSED


class State(enum.StrEnum):
    """How far a change of the embedding model is."""

    WAITING = "Waiting"
    REINDEXING = "Reindexing"
    COMPLETE = "Complete"


def wanted_model(desired: Mapping[Key, Object]) -> str:
    """The embedding model that the app is told to use."""
    app = find_component(desired, names.APP, DEPLOYMENT)
    return environment(app, "DEFAULT_EMBEDDING_MODEL") if app else ""


def remembers(desired: Mapping[Key, Object]) -> bool:
    """Whether the instance has a memory server of its own."""
    return find_component(desired, names.MEM0, DEPLOYMENT) is not None


def witness(observed: Mapping[Key, Object], component: str) -> Object | None:
    """A pod of the component that can be asked: the newest one that is ready."""
    pods = [
        o
        for o in of_kind(observed, POD).values()
        if component_of(o) == component and _is_ready(o) and not is_going(o)
    ]
    return max(pods, key=lambda p: str(p["metadata"].get("creationTimestamp")), default=None)


def status_of(
    body: Mapping[str, Any], wanted: str, memories: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The entry of the status: what the app said and, under "memories", the memory server."""
    found = _index(body, wanted)
    if memories is not None:
        theirs = _index(memories, wanted)
        found["memories"] = {k: v for k, v in theirs.items() if k != "wanted"}
    return found


def _index(body: Mapping[str, Any], wanted: str) -> dict[str, Any]:
    """How one index stands."""
    model, progress = str(body.get("model") or ""), body.get("reindex") or {}
    found: dict[str, Any] = {"model": model, "wanted": wanted}
    message = str(progress.get("message") or body.get("message") or "")
    if progress:
        found |= {
            "state": State.REINDEXING.value,
            "percent": int(progress.get("percent") or 0),
            "done": int(progress.get("done") or 0),
            "total": int(progress.get("total") or 0),
            "rate": f"{float(progress.get('rate') or 0):.1f}/s",
        }
        if progress.get("eta_seconds") is not None:
            found["etaSeconds"] = int(progress["eta_seconds"])
    else:
        there = not model or is_same(model, wanted)
        found["state"] = (State.COMPLETE if there else State.WAITING).value
    return found | ({"message": message} if message else {})


def is_same(one: str, other: str) -> bool:
    """Whether two names are the same model's; ``:latest`` stands where no tag does."""
    return one.removesuffix(":latest") == other.removesuffix(":latest")


def state(status: Mapping[str, Any]) -> str:
    """How far both indexes are together: complete when each is."""
    found = str(status.get("state"))
    memories = status.get("memories")
    return str(memories["state"]) if memories and found == State.COMPLETE else found


def told(status: Mapping[str, Any]) -> str:
    """The entry in a sentence or two; empty where there is nothing to wait for."""
    wanted = str(status.get("wanted"))
    parts = (
        _told(status, wanted, "pieces", "documents"),
        _told(status.get("memories") or {}, wanted, "records", "memories"),
    )
    return " ".join(part for part in parts if part)


def _told(index: Mapping[str, Any], wanted: str, unit: str, what: str) -> str:
    if index.get("state") == State.WAITING:
        said = f"The {what} are to be embedded anew with {wanted}."
    elif index.get("state") == State.REINDEXING:
        left = f", {index['etaSeconds']} s left" if "etaSeconds" in index else ""
        said = (
            f"{index.get('done')} of {index.get('total')} {unit} ({index.get('percent')} %) of the "
            f"{what} are embedded anew with {wanted}, {index.get('rate')}{left}; "
            f"{index.get('model')} answers till then."
        )
    else:
        return ""
    return f"{said} {index['message']}" if index.get("message") else said


def refusal(components: Iterable[Component]) -> str:
    """Why pods do not start that would use another embedding model; empty when there is none."""
    return " ".join(dict.fromkeys(c.message for c in components if c.reason == EMBEDDING_REFUSED))


def _is_ready(pod: Mapping[str, Any]) -> bool:
    status = pod.get("status") or {}
    ready = any(
        c.get("type") == "Ready" and c.get("status") == "True"
        for c in status.get("conditions") or ()
    )
    return ready and bool(status.get("podIP"))
