"""The rotation machine in a world where anything may happen.

Secrets reach pods late, the operator is killed at any point, and pods come and go. What the machine
remembers is the Secret alone, so a kill is nothing but a step not taken.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metis_operator.core import slots
from metis_operator.core.credentials import MEM0_KEY, METIS_DB, fresh
from metis_operator.core.merge_patch import patched
from metis_operator.core.rotation import (
    Begin,
    Change,
    Finish,
    Held,
    Phase,
    Pod,
    Progress,
    Request,
    Rest,
    Revoke,
    Seen,
    StartJob,
    Switch,
    Task,
    Wait,
    decide,
)
from metis_operator.core.schedule import Rules


@dataclass
class World:
    purpose: str
    secret: dict[str, Any]
    mounted: dict[str, dict[str, str]] = field(default_factory=dict)
    checkers: list[str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    deaf: set[str] = field(default_factory=set)
    roles: set[str] = field(default_factory=set)
    job: tuple[Task, str, bool] | None = None
    now: float = 0.0
    minted: int = 0
    request: Request | None = None
    revoked: list[str] = field(default_factory=list)

    @property
    def held(self) -> Held:
        found = slots.held(self.purpose, self.secret)
        assert found is not None
        return found

    def start(self, pod: str) -> None:
        self.mounted[pod] = dict(self.secret["data"])

    def refresh(self, pod: str) -> None:
        if pod not in self.deaf:
            self.mounted[pod] = dict(self.secret["data"])

    def _fingerprint(self, pod: str, slot: str) -> str | None:
        values = slots.values_of(self.purpose, slot, self.mounted[pod])
        return slots.fingerprint(*values) if values else None

    def uses(self, pod: str) -> str:
        found = self._fingerprint(pod, slots.CURRENT)
        assert found
        return found

    def accepted(self, pod: str) -> frozenset[str]:
        live = (slots.CURRENT, slots.NEXT, slots.PREVIOUS)
        return frozenset(f for s in live if (f := self._fingerprint(pod, s)))

    def look(self) -> Seen:
        held, change = self.held, None
        shut = held.revoked
        if self.purpose != MEM0_KEY:
            task = Task.PREPARE if held.phase is Phase.PREPARING else Task.REVOKE
            expected = held.next if task is Task.PREPARE and held.next else held.current
            there = self.job is not None and self.job[:2] == (task, expected)
            done = there and self.job is not None and self.job[2]
            progress = Progress.DONE if done else Progress.RUNNING
            change = Change(task, progress if there else Progress.ABSENT, self.now)
        checkers = [
            Pod(p, accepts=self.accepted(p), refuses_revoked=shut not in self.accepted(p))
            for p in self.checkers
        ]
        return Seen(
            now=self.now,
            held=held,
            rotated=0.0,
            phase_since=0.0,
            handled=self.secret["metadata"]["annotations"].get(slots.HANDLED, ""),
            urgent=slots.URGENT in self.secret["metadata"]["annotations"],
            request=self.request,
            checkers=checkers if self.purpose == MEM0_KEY else (),
            users=[
                Pod(p, uses=self.uses(p), refuses_revoked=shut not in self.accepted(p))
                for p in self.users
            ],
            change=change,
        )

    def act(self) -> Any:
        step = decide(self.look(), Rules())
        if isinstance(step, StartJob):
            held = self.held
            expected = held.next if step.task is Task.PREPARE and held.next else held.current
            self.job = (step.task, expected, False)
        elif isinstance(step, Begin | Switch | Revoke | Finish):
            if isinstance(step, Revoke):
                assert self.held.previous
                self.revoked.append(self.held.previous)
            self.write(step)
        return step

    def write(self, step: slots.Change) -> None:
        self.minted += 1
        patch = slots.apply(
            step, self.purpose, self.secret, "2026-01-01T00:00:00Z", lambda _: f"v{self.minted}"
        )
        self.secret = patched(self.secret, patch)

    def work(self) -> None:
        """The Job comes to its end."""
        if self.job is None or self.job[2]:
            return
        held = self.held
        if self.job[0] is Task.PREPARE and held.next == self.job[1]:
            self.roles.add(self.job[1])
        if self.job[0] is Task.REVOKE and held.revoked:
            self.roles.discard(held.revoked)
        self.job = (self.job[0], self.job[1], True)

    def check(self) -> None:
        """What may never happen: someone is refused."""
        for user in self.users:
            if self.purpose == MEM0_KEY:
                for checker in self.checkers:
                    assert self.uses(user) in self.accepted(checker), (user, checker)
            else:
                assert self.uses(user) in self.roles, user


def world(purpose: str) -> World:
    values = {k: base64.b64encode(v.encode()).decode() for k, v in fresh(purpose, str).items()}
    secret = {"metadata": {"name": f"demo-{purpose}", "annotations": {}}, "data": values}
    made = World(purpose, secret)
    made.roles.add(made.held.current)
    made.checkers = ["mem0-1", "mem0-2"] if purpose == MEM0_KEY else []
    made.users = ["app-1", "app-2"]
    for pod in (*made.checkers, *made.users):
        made.start(pod)
    return made


EVENTS = st.lists(
    st.one_of(
        st.just(("act",)),
        st.just(("work",)),
        *[st.tuples(st.just("refresh"), st.just(n)) for n in range(4)],
        st.tuples(st.just("add"), st.booleans()),
        st.tuples(st.just("remove"), st.integers(0, 5)),
        st.tuples(st.just("ask"), st.integers(0, 3)),
    ),
    min_size=20,
    max_size=100,
)


def play(w: World, events: list[tuple[Any, ...]]) -> None:
    for number, (event, *rest) in enumerate(events):
        pods = [*w.checkers, *w.users]
        if event == "act":
            w.act()
        elif event == "refresh":
            w.refresh(pods[rest[0] % len(pods)])
        elif event == "work":
            w.work()
        elif event == "ask":
            w.request = Request(f"t{rest[0]}")
        elif event == "add":
            checks = rest[0] and w.purpose == MEM0_KEY
            (w.checkers if checks else w.users).append(f"pod-{number}")
            w.start(f"pod-{number}")
        elif event == "remove" and len(pods) > 1:
            gone = pods[rest[0] % len(pods)]
            for group in (w.checkers, w.users):
                if gone in group:
                    group.remove(gone)
        w.check()


@settings(max_examples=150, deadline=None)
@given(events=EVENTS, purpose=st.sampled_from([MEM0_KEY, METIS_DB]))
def test_whatever_happens_nobody_is_refused_and_it_ends(
    events: list[tuple[Any, ...]], purpose: str
) -> None:
    w = world(purpose)
    w.request = Request("first")
    play(w, events)
    for _ in range(20):  # Left in peace, it comes to its end.
        w.act()
        w.work()
        for pod in (*w.checkers, *w.users):
            w.refresh(pod)
            w.check()
    assert w.held.phase is Phase.IDLE
    assert isinstance(w.act(), Rest)
    assert {w.uses(p) for p in w.users} <= {w.held.current}
    if purpose == METIS_DB:
        assert w.roles == {w.held.current}
        assert set(w.secret["data"]) == {"username", "password", "superuser-password"}
    else:
        assert set(w.secret["data"]) == {"current"}


@pytest.mark.full
@pytest.mark.timeout(1200)
@settings(max_examples=5000, deadline=None)
@given(events=EVENTS, purpose=st.sampled_from([MEM0_KEY, METIS_DB]))
def test_whatever_happens_at_length(events: list[tuple[Any, ...]], purpose: str) -> None:
    test_whatever_happens_nobody_is_refused_and_it_ends.hypothesis.inner_test(events, purpose)


@settings(max_examples=100, deadline=None)
@given(events=EVENTS, purpose=st.sampled_from([MEM0_KEY, METIS_DB]), who=st.integers(0, 3))
def test_a_deaf_pod_stops_it_before_the_revocation(
    events: list[tuple[Any, ...]], purpose: str, who: int
) -> None:
    w = world(purpose)
    deaf = [*w.checkers, *w.users][who % (len(w.checkers) + len(w.users))]
    w.deaf.add(deaf)
    w.request = Request("first")
    play(w, [e for e in events if e[0] != "remove"])
    for _ in range(20):
        w.act()
        w.work()
        for pod in (*w.checkers, *w.users):
            w.refresh(pod)
            w.check()
    assert not w.revoked
    last = w.act()
    assert isinstance(last, Wait)
    assert deaf in last.waiting


@pytest.mark.parametrize("purpose", [MEM0_KEY, METIS_DB])
def test_each_write_is_one_and_guarded(purpose: str) -> None:
    w = world(purpose)
    w.secret["metadata"] |= {"uid": "u1", "resourceVersion": "7"}
    for step in (Begin("asked"), Switch(), Revoke(), Finish()):
        patch = slots.apply(step, purpose, w.secret, "2026-01-01T00:00:00Z", lambda _: "fresh")
        assert patch["metadata"]["resourceVersion"] == "7"
        assert patch["metadata"]["uid"] == "u1"
        before = w.held
        w.write(step)
        assert w.held != before
    assert w.held.phase is Phase.IDLE


def test_the_login_goes_from_one_role_to_the_other_and_back() -> None:
    w = world(METIS_DB)
    users = []
    for _ in range(3):
        users.append(slots.values_of(METIS_DB, slots.CURRENT, w.secret["data"])[0])  # type: ignore[index]
        for step in (Begin("asked"), Switch(), Revoke(), Finish()):
            w.write(step)
    assert users == ["metis_app_a", "metis_app_b", "metis_app_a"]


def test_the_memory_server_never_sees_a_revoked_key_in_its_folder() -> None:
    assert slots.keys_of(MEM0_KEY, slots.REVOKED)[0].startswith(".")
