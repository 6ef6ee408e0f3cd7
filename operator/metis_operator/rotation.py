"""Rotations carried out: it looks, asks the pure machine what to do, and does that.

All state is in the Secrets; what is remembered here only saves calls.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from . import events, metrics
from .cluster import Cluster
from .core import credentials, names, rolejob, slots
from .core.credentials import MEM0_DB, MEM0_KEY, METIS_DB
from .core.objects import (
    JOB,
    POD,
    SECRET,
    STATEFUL_SET,
    Key,
    Object,
    annotations_of,
    labels_of,
    meta_of,
    uid_of,
)
from .core.rotation import (
    Begin,
    Change,
    DropJob,
    Finish,
    Held,
    Phase,
    Progress,
    Rest,
    Revoke,
    Seen,
    StartJob,
    Step,
    Switch,
    Task,
    Wait,
    decide,
)
from .core.schedule import Rules
from .errors import ConflictError, NotFoundError
from .rotation_report import Report, moment, news_of, stamp, status_of, trouble_of
from .rotation_subject import Subject
from .witness import Witnesses, counts, mounts

log = structlog.get_logger(__name__)

# Steps taken in one go at most; what is left is for the next look.
_STEPS = 8
# How soon to look again, in seconds: while it moves, while it is stuck, at a Secret to follow.
_SOON, _LATER, _FOLLOW = 0.3, 5.0, 15.0
# A pod that has not confirmed is touched again after so many seconds.
_TOUCH_AGAIN = 5.0


@dataclass(frozen=True)
class _Scene:
    """What was read for one look."""

    secret: Object
    seen: Seen
    pods: Mapping[str, Object]
    brought: str = ""
    job: Object | None = None


class Rotator:
    """Carries rotations on, a few steps at each call."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._witnesses = Witnesses(self._secret)
        self._touched: dict[str, tuple[str, float]] = {}
        self._stuck: set[tuple[str, str]] = set()

    async def _secret(self, namespace: str, name: str) -> Object | None:
        return await self._cluster.get(Key(SECRET, namespace, name))

    async def close(self) -> None:
        """Close the connections to pods."""
        await self._witnesses.close()

    async def advance(self, subject: Subject, known: Mapping[str, Object]) -> list[Report]:
        """Carry on what is under way and begin what is due; one credential at a time.

        ``known`` are the Secrets last seen, by purpose, each with what it holds under "held".
        While nothing is to be done, the API server is not asked (but for Secrets to follow).

        Raises:
            ConflictError: a Secret was changed by someone else meanwhile.
            ClusterError: the API server refused or did not answer.
        """
        reports = []
        own = [p for p in slots.ROTATED_PURPOSES if p in subject.only]
        there = [p for p in own if (known.get(p) or {}).get("held")]
        busy = False
        for purpose in sorted(there, key=lambda p: known[p]["held"].phase is Phase.IDLE):
            report = await self._advance(subject, purpose, known[purpose], busy=busy)
            busy = busy or report.held.phase is not Phase.IDLE
            reports.append(report)
        return reports

    async def _advance(
        self, subject: Subject, purpose: str, known: Object, *, busy: bool
    ) -> Report:
        rules = subject.rules.get(purpose, Rules())
        if known["held"].phase is Phase.IDLE:
            seen = await self._idle(subject, purpose, known)
            step = decide(seen, rules)
            if isinstance(step, Rest) or (busy and not _urgent(step)):
                return self._report(subject, purpose, known, seen, step)
        for _ in range(_STEPS):
            scene = await self._look(subject, purpose)
            step = decide(scene.seen, rules)
            if isinstance(step, Rest):
                break
            if isinstance(step, Wait):
                await self._touch(step, scene)
                await self._tell_of_trouble(step, subject, purpose, scene)
                break
            await self._do(step, subject, purpose, scene)
        return self._report(subject, purpose, scene.secret, scene.seen, step)

    async def _do(self, step: Step, subject: Subject, purpose: str, scene: _Scene) -> None:
        if isinstance(step, StartJob):
            await self._start_job(step, subject, purpose, scene)
        elif isinstance(step, DropJob):
            if scene.job is not None:
                key = Key(JOB, subject.namespace, meta_of(scene.job)["name"])
                await self._cluster.delete(key, uid_of(scene.job))
        elif isinstance(step, Begin | Switch | Revoke | Finish):
            await self._write(step, subject, purpose, scene)

    async def _write(
        self, step: slots.Change, subject: Subject, purpose: str, scene: _Scene
    ) -> None:
        now = datetime.now(UTC)
        patch = slots.apply(
            step, purpose, scene.secret, stamp(now), secrets.token_urlsafe, scene.brought
        )
        key = Key(SECRET, subject.namespace, credentials.secret_name(subject.instance, purpose))
        written = await self._cluster.merge(key, patch)
        after = slots.held(purpose, written)
        phase = after.phase if after else Phase.IDLE
        log.info(
            "rotation", namespace=subject.namespace, instance=subject.instance,
            component=purpose, phase=str(phase), current=after.current if after else None,
        )  # fmt: skip
        seen = scene.seen
        if seen.phase_since is not None and not isinstance(step, Begin):
            took = max(0.0, now.timestamp() - seen.phase_since)
            metrics.ROTATION_SECONDS.labels(purpose, str(seen.held.phase)).observe(took)
        self._stuck.discard((uid_of(scene.secret), purpose))
        if scene.job is not None:
            job = Key(JOB, subject.namespace, meta_of(scene.job)["name"])
            await self._cluster.delete(job, uid_of(scene.job))
        reason, message = news_of(step, purpose, after)
        if isinstance(step, Finish):
            metrics.ROTATIONS.labels(purpose, "urgent" if seen.urgent else "succeeded").inc()
        await events.tell(self._cluster, subject.about, "Normal", reason, message, now)

    async def _start_job(
        self, step: StartJob, subject: Subject, purpose: str, scene: _Scene
    ) -> None:
        database = rolejob.database_of(subject.instance, purpose)
        statefulset = await self._cluster.get(Key(STATEFUL_SET, subject.namespace, database))
        if statefulset is None:
            raise NotFoundError(f"Cannot change the login: StatefulSet/{database} is not there.")
        held = scene.seen.held
        expected = held.next if step.task is Task.PREPARE and held.next else held.current
        job = rolejob.build(
            statefulset, subject.instance, purpose, step.task, expected, subject.owner
        )
        job["metadata"]["namespace"] = subject.namespace
        try:
            await self._cluster.create(Key(JOB, subject.namespace, job["metadata"]["name"]), job)
        except ConflictError:
            return  # It was begun before.

    async def _idle(self, subject: Subject, purpose: str, known: Object) -> Seen:
        """What decides whether a rotation begins."""
        follows = subject.follows.get(purpose)
        if follows is None:
            return _seen(subject, purpose, known, known["held"])
        key = _secret_key(subject, purpose)
        secret = await self._cluster.get(key)
        held = slots.held(purpose, secret or {})
        if secret is None or held is None:
            raise NotFoundError(f"{key} is not there any more.")
        brought = await self._brought(subject, purpose)
        return _seen(subject, purpose, secret, held, brought)

    async def _look(self, subject: Subject, purpose: str) -> _Scene:
        """All of the present, asked for anew: Secrets, pods, the Job."""
        key = _secret_key(subject, purpose)
        secret = await self._cluster.get(key)
        held = slots.held(purpose, secret or {})
        if secret is None or held is None:
            raise NotFoundError(f"{key} is not there any more.")
        brought = await self._brought(subject, purpose)
        seen = _seen(subject, purpose, secret, held, brought)
        if held.phase is Phase.IDLE:
            return _Scene(secret, seen, {}, brought or "")
        live = await self._keys(subject, secret if purpose == MEM0_KEY else None)
        every, _ = await self._cluster.list(POD, namespace=subject.namespace)
        pods = {meta_of(p)["name"]: p for p in every if counts(p)}
        of_app = _of(pods, subject, names.APP) if purpose != MEM0_DB else []
        of_mem0 = _of(pods, subject, names.MEM0) if purpose != METIS_DB else []
        asked = {meta_of(p)["name"] for p in (*of_app, *of_mem0)}
        seen = replace(
            seen,
            bystanders=[
                name
                for name, pod in pods.items()
                if name not in asked and mounts(pod, key.name) and not _of_stack(pod, subject)
            ],
        )
        job = None
        if purpose == MEM0_KEY:
            shut = slots.values_of(MEM0_KEY, slots.REVOKED, secret.get("data") or {})
            revoked = shut[0] if shut else None
            checkers = await self._witnesses.checkers(of_mem0, live, revoked)
            users = await self._witnesses.key_users(of_app, live, revoked)
            seen = replace(seen, checkers=checkers, users=users)
        else:
            task = Task.PREPARE if held.phase is Phase.PREPARING else Task.REVOKE
            change, job = await self._change(subject, purpose, task, held)
            users = await self._witnesses.database_users([*of_app, *of_mem0], live)
            seen = replace(seen, users=users, change=change)
        return _Scene(secret, seen, pods, brought or "", job)

    async def _keys(self, subject: Subject, secret: Object | None) -> list[str]:
        """The Mem0 keys that may open a pod's status; ``secret`` is ours, where it is at hand."""
        if secret is not None:
            return slots.live_keys(secret)
        if MEM0_KEY in subject.only:
            return slots.live_keys(await self._cluster.get(_secret_key(subject, MEM0_KEY)) or {})
        # Of a Mem0 brought from outside, the pods use the user's key as it is.
        theirs = await self._brought(subject, MEM0_KEY)
        return [] if theirs is None else [theirs]

    async def _brought(self, subject: Subject, purpose: str) -> str | None:
        """The value of the Secret to follow; None when there is none to be read."""
        name = subject.follows.get(purpose)
        if name is None:
            return None
        found = await self._cluster.get(Key(SECRET, subject.namespace, name))
        return credentials.brought_value(purpose, found)

    async def _change(
        self, subject: Subject, purpose: str, task: Task, held: Held
    ) -> tuple[Change, Object | None]:
        expected = held.next if task is Task.PREPARE and held.next else held.current
        name = rolejob.job_name(subject.instance, purpose, task, expected)
        job = await self._cluster.get(Key(JOB, subject.namespace, name))
        progress = rolejob.progress_of(job)
        if job is None or progress is Progress.DONE:
            return Change(task, progress), job
        pods, _ = await self._cluster.list(
            POD, namespace=subject.namespace, selector={names.LABEL_JOB: name}
        )
        since = moment(rolejob.failed_at(job)) or time.time()
        return Change(task, progress, since, rolejob.last_words(pods)), job

    async def _touch(self, step: Wait, scene: _Scene) -> None:
        """Have the kubelet look at once at the Secret that these pods mount."""
        version = str(meta_of(scene.secret).get("resourceVersion"))
        now = time.monotonic()
        for name in {*step.waiting, *scene.seen.bystanders}:
            pod = scene.pods.get(name)
            if pod is None:
                continue
            last, when = self._touched.get(uid_of(pod), ("", 0.0))
            if last == version and now - when < _TOUCH_AGAIN:
                continue
            self._touched[uid_of(pod)] = (version, now)
            note = {slots.REFRESHED: f"{version}-{int(now)}"}
            key = Key(POD, meta_of(pod)["namespace"], name)
            try:
                await self._cluster.merge(key, {"metadata": {"annotations": note}})
            except NotFoundError:
                continue  # It has gone, which will do as well.

    async def _tell_of_trouble(
        self, step: Wait, subject: Subject, purpose: str, scene: _Scene
    ) -> None:
        """Once for each phase that takes too long: an event, and a count."""
        mark = (uid_of(scene.secret), purpose)
        if not step.stuck or mark in self._stuck:
            return
        self._stuck.add(mark)
        metrics.ROTATIONS.labels(purpose, "stuck").inc()
        message = trouble_of(purpose, scene.seen.held.phase, step)
        now = datetime.now(UTC)
        await events.tell(self._cluster, subject.about, "Warning", "RotationWaits", message, now)

    def _report(
        self, subject: Subject, purpose: str, secret: Object, seen: Seen, step: Step
    ) -> Report:
        trouble, again = "", None
        if isinstance(step, Wait):
            trouble = trouble_of(purpose, seen.held.phase, step) if step.stuck else ""
            again = _LATER if step.stuck else _SOON
        elif not isinstance(step, Rest):
            again = _SOON
        elif step.due is not None and step.due > seen.now:
            again = step.due - seen.now
        if purpose in subject.follows:
            again = min(_FOLLOW, again or _FOLLOW)
        metrics.note_rotated(subject.namespace, subject.instance, purpose, seen.rotated)
        return Report(
            purpose, seen.held, status_of(purpose, secret, seen, step, trouble), trouble, again
        )


def _of(pods: Mapping[str, Object], subject: Subject, component: str) -> list[Object]:
    wanted = names.selector_labels(subject.instance, component).items()
    return [pod for pod in pods.values() if wanted <= labels_of(pod).items()]


def _of_stack(pod: Object, subject: Subject) -> bool:
    """Whether the pod is the instance's own: a database, or a Job of a rotation."""
    wanted = {names.LABEL_NAME: names.PRODUCT, names.LABEL_INSTANCE: subject.instance}
    return wanted.items() <= labels_of(pod).items()


def _secret_key(subject: Subject, purpose: str) -> Key:
    name = credentials.secret_name(subject.instance, purpose)
    return Key(SECRET, subject.namespace, name)


def _seen(
    subject: Subject, purpose: str, secret: Object, held: Held, brought: str | None = None
) -> Seen:
    notes = annotations_of(secret)
    return Seen(
        now=time.time(),
        held=held,
        rotated=moment(notes.get(slots.ROTATED) or meta_of(secret).get("creationTimestamp")) or 0.0,
        phase_since=moment(notes.get(slots.PHASE_SINCE)),
        urgent=notes.get(slots.URGENT) == "true",
        handled=notes.get(slots.HANDLED, ""),
        request=subject.requests.get(purpose),
        follows=purpose in subject.follows,
        brought=slots.fingerprint_with(purpose, secret, brought) if brought else None,
        able=subject.able,
        suspended=subject.suspended,
        change=None if purpose == MEM0_KEY else Change(Task.PREPARE),
    )


def _urgent(step: Step) -> bool:
    return isinstance(step, Begin) and step.request is not None and step.request.revoke_now
