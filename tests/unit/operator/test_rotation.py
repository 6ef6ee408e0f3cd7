"""The rotation machine, step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from metis_operator.core.rotation import (
    PATIENCE,
    QUIET,
    QUIET_WITHIN,
    RETRY_CHANGE,
    Begin,
    Change,
    DropJob,
    Finish,
    Held,
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

NEVER = Rules()
DAY = Rules(interval=86400)


def seen(**more: Any) -> Seen:
    return replace(Seen(now=1000.0, held=Held("old"), rotated=0.0), **more)


ASKED = Request("t1")


@pytest.mark.parametrize(
    ("more", "rules", "step"),
    [
        ({}, NEVER, Rest),
        ({"now": 90000.0}, DAY, Begin),
        ({"now": 70000.0}, DAY, Rest),
        ({"now": 90000.0, "able": False}, DAY, Rest),
        ({"request": ASKED}, NEVER, Begin),
        ({"request": ASKED, "able": False}, NEVER, Begin),
        ({"request": ASKED, "handled": "t1"}, NEVER, Rest),
        ({"follows": True, "brought": "old", "now": 90000.0}, DAY, Rest),
        ({"follows": True, "brought": None, "request": ASKED}, DAY, Rest),
        ({"follows": True, "brought": "new"}, NEVER, Begin),
        ({"suspended": True, "request": ASKED}, NEVER, Begin),
        ({"suspended": True, "request": ASKED, "change": Change(Task.PREPARE)}, NEVER, Rest),
    ],
)
def test_when_it_begins(more: dict[str, Any], rules: Rules, step: type) -> None:
    assert isinstance(decide(seen(**more), rules), step)


def test_a_key_is_revoked_at_once_and_a_login_once_the_database_knows_another() -> None:
    hurry = Request("t1 revoke-now", revoke_now=True)
    key = decide(seen(request=hurry), NEVER)
    assert isinstance(key, Begin)
    assert key.at_once
    login = decide(seen(request=hurry, change=Change(Task.PREPARE)), NEVER)
    assert isinstance(login, Begin)
    assert not login.at_once
    held = Held("new", previous="old")
    stranger = (Pod("app-1", uses="old"),)
    assert isinstance(decide(seen(held=held, urgent=True, users=stranger), NEVER), Revoke)
    assert isinstance(decide(seen(held=held, request=hurry, users=stranger), NEVER), Revoke)


PREPARING = Held("old", next="new")
SWITCHING = Held("new", previous="old")
REVOKING = Held("new", revoked="old")
BOTH, NEW, OLD = frozenset({"old", "new"}), frozenset({"new"}), frozenset({"old"})


@pytest.mark.parametrize(
    ("held", "checkers", "users", "step"),
    [
        (PREPARING, [Pod("m", accepts=BOTH)], [], Switch),
        (PREPARING, [Pod("m", accepts=BOTH), Pod("n", accepts=OLD)], [], Wait),
        (PREPARING, [Pod("m", trouble="does not answer")], [], Wait),
        (PREPARING, [], [], Switch),
        (SWITCHING, [Pod("m", accepts=BOTH)], [Pod("a", uses="new")], Revoke),
        (SWITCHING, [Pod("m", accepts=BOTH)], [Pod("a", exempt=True)], Revoke),
        (SWITCHING, [Pod("m", accepts=BOTH)], [Pod("a", uses="old")], Wait),
        (SWITCHING, [Pod("m", accepts=BOTH)], [Pod("a", uses="new", former=2)], Wait),
        (SWITCHING, [Pod("m", accepts=OLD)], [Pod("a", uses="new")], Wait),
        (SWITCHING, [Pod("m", accepts=BOTH)], [Pod("a", trouble="does not answer")], Wait),
        (REVOKING, [Pod("m", accepts=NEW, refuses_revoked=True)], [], Finish),
        (REVOKING, [Pod("m", accepts=NEW)], [], Wait),
        (REVOKING, [Pod("m", accepts=BOTH, refuses_revoked=True)], [], Wait),
        (REVOKING, [], [], Finish),
        (REVOKING, [], [Pod("a", uses="new", refuses_revoked=True)], Finish),
        (REVOKING, [], [Pod("a", exempt=True)], Finish),
        (REVOKING, [], [Pod("a", uses="new")], Wait),
    ],
)
def test_each_step_waits_for_every_pod(
    held: Held, checkers: list[Pod], users: list[Pod], step: type
) -> None:
    found = decide(seen(held=held, checkers=checkers, users=users), NEVER)
    assert isinstance(found, step), found
    if isinstance(found, Wait):
        assert len(found.waiting) == 1
        assert not found.stuck


def test_in_a_hurry_those_who_use_a_key_are_made_to_look_and_then_left() -> None:
    deaf = [Pod("app-1", uses="old")]
    hurry = seen(held=REVOKING, urgent=True, users=deaf, phase_since=999.0)
    assert decide(hurry, NEVER) == Wait({"app-1": "does not refuse the old one yet"})
    assert decide(replace(hurry, now=1010.0), NEVER) == Finish()
    still = replace(hurry, now=1010.0, checkers=[Pod("m", accepts=BOTH)])
    assert isinstance(decide(still, NEVER), Wait), "who checks it is waited for"


def test_pods_that_cannot_be_asked_get_some_time() -> None:
    seen_it = seen(held=SWITCHING, phase_since=999.0, bystanders=("script",))
    assert decide(seen_it, NEVER) == Wait({"script": "is given time to look"})
    assert decide(replace(seen_it, now=1010.0), NEVER) == Revoke()


def test_a_key_is_not_revoked_while_somebody_still_presents_it() -> None:
    server = Pod("m", accepts=BOTH, idle={"old": QUIET - 0.1, "new": 0.0})
    busy = seen(held=SWITCHING, checkers=[Pod("n", accepts=BOTH), server], phase_since=999.0)
    assert decide(busy, NEVER) == Wait({"m": "was asked with the old one just now"})
    quiet = replace(server, idle={"old": QUIET, "new": 0.0})
    assert decide(replace(busy, checkers=[quiet]), NEVER) == Revoke()
    assert decide(replace(busy, now=999.0 + QUIET_WITHIN), NEVER) == Revoke()
    assert decide(replace(busy, urgent=True), NEVER) == Revoke()


def test_a_pod_that_does_not_confirm_is_named_after_a_while() -> None:
    waits = seen(held=SWITCHING, users=[Pod("app-7", uses="old")], phase_since=1000.0)
    late = decide(replace(waits, now=1000.0 + PATIENCE + 1), NEVER)
    assert late == Wait({"app-7": "does not use the new one yet"}, stuck=True)
    assert not decide(replace(waits, now=1000.0 + PATIENCE - 1), NEVER).stuck  # type: ignore[union-attr]


@pytest.mark.parametrize(("held", "task"), [(PREPARING, Task.PREPARE), (REVOKING, Task.REVOKE)])
def test_a_database_is_changed_by_a_job_that_is_tried_again(held: Held, task: Task) -> None:
    def step(progress: Progress, since: float = 1000.0) -> Any:
        return decide(seen(held=held, change=Change(task, progress, since, "no route")), NEVER)

    assert step(Progress.ABSENT) == StartJob(task)
    assert isinstance(step(Progress.RUNNING), Wait)
    failed = step(Progress.FAILED)
    assert failed.stuck
    assert "no route" in str(failed.waiting)
    assert step(Progress.FAILED, 1000.0 - RETRY_CHANGE) == DropJob(task)
    assert step(Progress.DONE) == (Switch() if task is Task.PREPARE else Finish())
