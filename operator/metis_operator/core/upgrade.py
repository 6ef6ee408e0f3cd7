"""An upgrade of the operator, or of its defaults: so many MetisRAGs roll because of it at a time.

One that was Ready before and is in trouble afterwards stops the upgrade: no further one begins
until it is Ready again, leaves, or is deleted. What a person changes in a MetisRAG never waits.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .manifests import digest_of
from .objects import Key, Object
from .plan import Action, Apply, Replace

# Seconds after which a rollout that has not come to an end has failed.
PATIENCE = 900.0


class State(enum.StrEnum):
    """How far one MetisRAG is."""

    WAITING = "Waiting"
    ROLLING = "Rolling"
    FAILED = "Failed"


MESSAGES = {
    State.WAITING: "The operator's new rendering waits for its turn, or for a rollout that failed "
    "elsewhere to be put right; until then all stays as it is.",
    State.ROLLING: "The operator's new rendering is being rolled out.",
    State.FAILED: "The operator's new rendering does not become ready here: no further MetisRAG "
    "gets it until this one is ready, paused or deleted.",
}


def is_rolled_by(actions: Iterable[Action], observed: Mapping[Key, Object]) -> bool:
    """Whether ``actions`` change a workload because its rendering is not what it was applied from.

    Drift, which is put back to the same rendering, does not count; nor does what is missing.
    """
    for action in actions:
        live = observed.get(action.key)
        if live is None or not action.key.kind.is_workload:
            continue
        if isinstance(action, Replace):
            return True
        if isinstance(action, Apply) and digest_of(live) not in ("", digest_of(action.obj)):
            return True
    return False


def while_waiting(
    actions: Iterable[Action], observed: Mapping[Key, Object], inventory: Iterable[Key]
) -> list[Action]:
    """Those of ``actions`` that cannot wait: what was there and is missing."""
    known = set(inventory)
    return [a for a in actions if isinstance(a, Apply) and a.key in known and a.key not in observed]


@dataclass
class _Rollout:
    since: float
    was_ready: bool
    failed: bool = False


@dataclass
class Upgrade:
    """Who rolls, at most ``limit`` at a time, and who waits. Times are seconds of any clock."""

    limit: int
    _rolling: dict[Hashable, _Rollout] = field(default_factory=dict)
    _waiting: dict[Hashable, None] = field(default_factory=dict)

    def admit(self, who: Hashable, *, was_ready: bool, now: float) -> bool:
        """Whether ``who`` may roll now; if not, it is noted as waiting."""
        self._waiting.pop(who, None)
        if who in self._rolling:
            return True
        if len(self._rolling) >= self.limit or self.is_stopped:
            self._waiting[who] = None
            return False
        self._rolling[who] = _Rollout(now, was_ready)
        return True

    def resume(self, who: Hashable, state: str, *, now: float) -> None:
        """Take up after a restart what the status of ``who`` says."""
        if state in (State.ROLLING, State.FAILED):
            self._rolling[who] = _Rollout(now, was_ready=True, failed=state == State.FAILED)

    def report(self, who: Hashable, *, ready: bool, trouble: bool, now: float) -> State | None:
        """Note how ``who`` is by now; gives what is to be told of it, None when it is done."""
        if who in self._waiting:
            return State.WAITING
        rollout = self._rolling.get(who)
        if rollout is None:
            return None
        failed = trouble or now - rollout.since > PATIENCE
        if ready or (failed and not rollout.was_ready):
            # What was in trouble before says nothing about the upgrade.
            del self._rolling[who]
            return None
        rollout.failed = failed
        return State.FAILED if failed else State.ROLLING

    def leave(self, who: Hashable) -> None:
        """Forget ``who``: it is deleted, paused, or needs nothing."""
        self._rolling.pop(who, None)
        self._waiting.pop(who, None)

    def wait_no_more(self, who: Hashable) -> None:
        """Note that ``who`` has nothing to wait for, or not by reason of the upgrade."""
        self._waiting.pop(who, None)

    def due(self) -> list[Any]:
        """Those that wait and could be admitted now."""
        if self.is_stopped:
            return []
        return list(self._waiting)[: max(0, self.limit - len(self._rolling))]

    @property
    def is_stopped(self) -> bool:
        """Whether a failed rollout keeps all others from beginning."""
        return any(r.failed for r in self._rolling.values())

    def counts(self) -> dict[State, int]:
        """How many are in each state."""
        failed = sum(r.failed for r in self._rolling.values())
        return {
            State.WAITING: len(self._waiting),
            State.ROLLING: len(self._rolling) - failed,
            State.FAILED: failed,
        }
