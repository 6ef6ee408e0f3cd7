"""How a rotation is told of: status, events, and what keeps it from going on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .core import slots
from .core.objects import Object, annotations_of, meta_of
from .core.rotation import Begin, Held, Phase, Rest, Revoke, Seen, Step, Switch, Wait


@dataclass(frozen=True)
class Report:
    """How the rotation of one credential stands."""

    purpose: str
    held: Held
    status: Mapping[str, Any]
    trouble: str = ""
    again: float | None = None
    """Seconds after which to look again."""


def stamp(time_: datetime) -> str:
    """RFC 3339 with milliseconds."""
    return time_.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(text: str | None) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None when it is none."""
    try:
        return datetime.fromisoformat(text or "").timestamp()
    except ValueError:
        return None


def status_of(purpose: str, secret: Object, seen: Seen, step: Step, trouble: str) -> dict[str, Any]:
    """What ``status.rotation`` says of one credential."""
    notes, held = annotations_of(secret), seen.held
    due = step.due if isinstance(step, Rest) else None
    message = trouble or (step.message if isinstance(step, Rest | Wait) else "")
    said: dict[str, Any] = {
        "component": purpose,
        "phase": str(held.phase),
        "current": held.current,
        "incoming": held.next,
        "previous": held.previous or held.revoked,
        "since": notes.get(slots.ROTATED) or meta_of(secret).get("creationTimestamp"),
        "phaseSince": notes.get(slots.PHASE_SINCE),
        "next": stamp(datetime.fromtimestamp(due, UTC)) if due is not None else None,
        "message": message or None,
    }
    if notes.get(slots.OUTCOME):
        said["last"] = {"outcome": notes[slots.OUTCOME], "finished": notes.get(slots.FINISHED)}
    return {k: v for k, v in said.items() if v is not None}


def trouble_of(purpose: str, phase: Phase, step: Wait) -> str:
    """Who keeps the rotation from going on, by name."""
    who = "; ".join(f"{name} {why}" for name, why in sorted(step.waiting.items()))
    kept = "" if phase is Phase.REVOKING else " The old one keeps working."
    return f"The rotation of {purpose} waits ({phase}): {who}.{kept}"


def news_of(step: Step, purpose: str, held: Held | None) -> tuple[str, str]:
    """Reason and message of the event that tells of a step; fingerprints only."""
    current = held.current if held else ""
    if isinstance(step, Begin):
        new = (held.next or current) if held else ""
        return "RotationStarted", f"{purpose}: rotates to {new}, because {step.because}."
    if isinstance(step, Switch):
        return "RotationSwitching", f"{purpose}: {current} is accepted; everyone goes over to it."
    if isinstance(step, Revoke):
        return "RotationRevoking", f"{purpose}: all use {current}; the former one is closed."
    return "RotationFinished", f"{purpose}: {current} is in use; the former one is refused."
