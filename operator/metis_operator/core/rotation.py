"""The rotation of one credential, as a state machine: what was seen decides the next step.

The same machine serves the Mem0 API key and the two database logins. Its state is which values
the Secret holds, so no step can be lost or done by halves (see docs/adr on rotation):

    Idle       current
    Preparing  current, next          those who check credentials learn to accept ``next``
    Switching  current, previous      those who use them go over to what is now ``current``
    Revoking   current, revoked       ``revoked`` is closed everywhere, and proven to be

Times are seconds since the epoch; "fingerprint" is what names a value without telling it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .schedule import Rules, next_time

# A wait that takes longer than this is trouble that a person should hear of. Seconds.
PATIENCE = 60.0
# Other pods that mount the Secret cannot be asked; so long after they were made to look at it, the
# former value still works. So long, too, a rotation in a hurry waits for those who use the value.
GRACE = 5.0
# So long nobody must have presented the former value before it is revoked: what is sent takes a
# while to arrive. Who goes on with it all the same is not waited for longer than the second figure.
QUIET, QUIET_WITHIN = 2.0, 30.0
# A change of the database that failed is begun anew after so many seconds.
RETRY_CHANGE = 10.0


class Phase(enum.StrEnum):
    """Where the rotation of one credential stands."""

    IDLE = "Idle"
    PREPARING = "Preparing"
    SWITCHING = "Switching"
    REVOKING = "Revoking"


class Task(enum.StrEnum):
    """What a Job does to the roles of a database."""

    PREPARE = "prepare"
    REVOKE = "revoke"


class Progress(enum.StrEnum):
    """How such a Job is."""

    ABSENT = "Absent"
    RUNNING = "Running"
    DONE = "Done"
    FAILED = "Failed"


@dataclass(frozen=True)
class Held:
    """Fingerprints of the values in the Secret."""

    current: str
    next: str | None = None
    previous: str | None = None
    revoked: str | None = None

    @property
    def phase(self) -> Phase:
        """What these values mean; values that someone added by hand lead back to order too."""
        if self.revoked is not None:
            return Phase.REVOKING
        if self.previous is not None:
            return Phase.SWITCHING
        return Phase.IDLE if self.next is None else Phase.PREPARING


@dataclass(frozen=True)
class Request:
    """Somebody wants a rotation; the same ``token`` asks for the same one."""

    token: str
    revoke_now: bool = False


@dataclass(frozen=True)
class Pod:
    """What one pod says of the credential. ``None`` and empty: it did not say."""

    name: str
    accepts: frozenset[str] | None = None
    """For one that checks it: the fingerprints it lets pass."""
    idle: Mapping[str, float] = field(default_factory=dict)
    """For one that checks it: seconds since each was last presented to it; not if it never was."""
    uses: str | None = None
    """For one that uses it: the fingerprint it presents."""
    former: int = 0
    """Connections that it still holds with another."""
    exempt: bool = False
    """It uses no such credential at all."""
    refuses_revoked: bool = False
    """A real request with the revoked one was refused, and one with the current one was not. Those
    who use a key are asked as well: it opens what they say of themselves."""
    trouble: str = ""
    """Why it did not say."""


@dataclass(frozen=True)
class Change:
    """The Job that changes the roles of a database, for credentials that are its logins."""

    task: Task
    progress: Progress = Progress.ABSENT
    since: float = 0.0
    message: str = ""


@dataclass(frozen=True)
class Seen:
    """All that the next step depends on."""

    now: float
    held: Held
    rotated: float
    """Since when ``current`` is in use."""
    phase_since: float | None = None
    urgent: bool = False
    """The rotation on its way waits for no one."""
    handled: str = ""
    """Token of the last request that was taken up."""
    request: Request | None = None
    follows: bool = False
    """The value is somebody else's to choose."""
    brought: str | None = None
    """Fingerprint of the value chosen there; None while there is none to be read."""
    able: bool = True
    """Whether a rotation may begin on its own: the stack is well."""
    suspended: bool = False
    checkers: Sequence[Pod] = ()
    users: Sequence[Pod] = ()
    bystanders: Sequence[str] = ()
    """Pods that mount the Secret and are neither checkers nor users."""
    change: Change | None = None
    """How the Job of this phase is; None for a credential that no database checks."""


@dataclass(frozen=True)
class Rest:
    """Nothing to do until ``due`` (None: no rotation is planned)."""

    due: float | None
    message: str = ""


@dataclass(frozen=True)
class Begin:
    """Put a new value into the Secret, minted or (``brought``) copied."""

    because: str
    request: Request | None = None
    brought: bool = False
    at_once: bool = False
    """Close the old value in the same write: nobody was asked whether he is ready."""


@dataclass(frozen=True)
class Switch:
    """Make ``next`` the current value and the current one the previous."""


@dataclass(frozen=True)
class Revoke:
    """Take the previous value out of use."""


@dataclass(frozen=True)
class Finish:
    """Forget the revoked value: it opens nothing any more."""


@dataclass(frozen=True)
class StartJob:
    """Begin the change of the database's roles."""

    task: Task


@dataclass(frozen=True)
class DropJob:
    """Remove a Job that failed, so that it can begin anew."""

    task: Task


@dataclass(frozen=True)
class Wait:
    """Look again soon. ``waiting`` says for which pods (or the Job), and why, by name."""

    waiting: Mapping[str, str]
    stuck: bool = False
    message: str = ""


Step = Rest | Begin | Switch | Revoke | Finish | StartJob | DropJob | Wait


def decide(seen: Seen, rules: Rules) -> Step:
    """The next step. It depends on nothing else, so it may be asked again at any time."""
    phase = seen.held.phase
    if phase is Phase.IDLE:
        return _begin(seen, rules)
    if seen.suspended and seen.change is not None:
        return Wait({}, message="The instance is suspended: its database cannot be changed.")
    if phase is Phase.PREPARING:
        return _prepare(seen)
    if phase is Phase.SWITCHING:
        return _switch(seen)
    return _revoke(seen)


def _begin(seen: Seen, rules: Rules) -> Step:
    asked = seen.request if seen.request and seen.request.token != seen.handled else None
    if seen.suspended and seen.change is not None:
        return Rest(None, "Suspended: nothing is rotated.")
    if seen.follows:
        if seen.brought is None:
            return Rest(None, "The Secret to follow is not there, or lacks its entry.")
        if seen.brought != seen.held.current:
            return Begin("the Secret that it follows has changed", brought=True)
        return Rest(None, "It follows a Secret of yours: change that one.")
    if asked is not None:
        # A database must know the new login first, whatever the hurry.
        at_once = asked.revoke_now and seen.change is None
        return Begin("it was asked for", asked, at_once=at_once)
    due = next_time(seen.rotated, rules, seen.now)
    if due is not None and due <= seen.now:
        if seen.able:
            return Begin("it is due")
        return Rest(due, "It is due, and begins when all components are ready.")
    return Rest(due)


def _prepare(seen: Seen) -> Step:
    if seen.change is not None:
        return _job(seen, seen.change, Switch())
    waiting = {
        pod.name: pod.trouble or "does not accept the new one yet"
        for pod in seen.checkers
        if seen.held.next not in (pod.accepts or ())
    }
    return _unless(waiting, seen, Switch())


def _switch(seen: Seen) -> Step:
    hurry = seen.request is not None and (
        seen.request.revoke_now and seen.request.token != seen.handled
    )
    if seen.urgent or hurry:
        return Revoke()
    current = seen.held.current
    waiting = {
        pod.name: pod.trouble or "does not accept the new one yet"
        for pod in seen.checkers
        if current not in (pod.accepts or ())
    }
    for pod in seen.users:
        if pod.exempt:
            continue
        if pod.uses != current:
            waiting[pod.name] = pod.trouble or "does not use the new one yet"
        elif pod.former:
            waiting[pod.name] = f"still has {pod.former} connections with the old one"
    since = seen.now - (seen.phase_since or 0.0)
    if not waiting and seen.bystanders and since < GRACE:
        return Wait(dict.fromkeys(seen.bystanders, "is given time to look"))
    if not waiting and since < QUIET_WITHIN:
        waiting = {
            pod.name: "was asked with the old one just now"
            for pod in seen.checkers
            if pod.idle.get(seen.held.previous or "", QUIET) < QUIET
        }
    return _unless(waiting, seen, Revoke())


def _revoke(seen: Seen) -> Step:
    if seen.change is not None:
        return _job(seen, seen.change, Finish())
    held = seen.held
    waiting = {
        pod.name: pod.trouble or "does not refuse the old one yet"
        for pod in seen.checkers
        if not pod.refuses_revoked
        or held.current not in (pod.accepts or ())
        or (held.revoked != held.current and held.revoked in (pod.accepts or ()))
    }
    # In a hurry those who use it are made to look, and not waited for.
    if not seen.urgent or seen.now - (seen.phase_since or 0.0) < GRACE:
        waiting |= {
            pod.name: pod.trouble or "does not refuse the old one yet"
            for pod in seen.users
            if not pod.exempt and not pod.refuses_revoked
        }
    return _unless(waiting, seen, Finish())


def _job(seen: Seen, change: Change, then: Step) -> Step:
    if change.progress is Progress.DONE:
        return then
    if change.progress is Progress.ABSENT:
        return StartJob(change.task)
    if change.progress is Progress.FAILED and seen.now - change.since >= RETRY_CHANGE:
        return DropJob(change.task)
    failed = change.progress is Progress.FAILED
    why = change.message or ("has failed" if failed else "is at work")
    return Wait({f"the Job that has to {change.task} the login": why}, failed or _late(seen))


def _unless(waiting: Mapping[str, str], seen: Seen, then: Step) -> Step:
    return Wait(waiting, _late(seen)) if waiting else then


def _late(seen: Seen) -> bool:
    return seen.phase_since is not None and seen.now - seen.phase_since > PATIENCE
