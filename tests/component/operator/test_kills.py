"""Killed at any write of making, changing and deleting, the operator finishes what it began."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.component.operator.supervised import Supervised

Step = Callable[[Supervised], None]

ONE_WAY = {"models": {"chat": "other"}, "networkPolicy": {"enabled": False}}
THE_OTHER = {"models": {"chat": "third"}, "networkPolicy": {"enabled": True}}


def make(supervised: Supervised) -> None:
    """From nothing."""
    if supervised.api.get("MetisRAG", supervised.ns, "demo"):
        supervised.api.delete("MetisRAG", supervised.ns, "demo")
    for kind, child in supervised.children():
        supervised.api.delete(kind, supervised.ns, child["metadata"]["name"])
    for name in supervised.secrets():
        supervised.api.delete("Secret", supervised.ns, name)
    supervised.create()


def update(supervised: Supervised) -> None:
    """Changes pods, and takes objects away or brings them back; ties data, or lets it go."""
    spec = supervised.resource()["spec"]
    if spec.get("deletionPolicy") == "Delete":
        supervised.change({"spec": {**THE_OTHER, "deletionPolicy": "Retain"}})
    else:
        supervised.change({"spec": {**ONE_WAY, "deletionPolicy": "Delete"}})


def delete_and_make_again(supervised: Supervised) -> None:
    """A new one adopts what the former one left."""
    supervised.api.delete("MetisRAG", supervised.ns, "demo")
    supervised.create()


STEPS: tuple[Step, ...] = (make, update, delete_and_make_again)


def run_and_kill(supervised: Supervised, step: Step, number: int, when: str) -> bool:
    """Take a step with a kill at that write; whether it came to it."""
    killed = False

    def strike(count: int, moment: str) -> None:
        nonlocal killed
        if (count, moment) == (number, when):
            killed = True
            supervised.supervisor.kill()

    before = {} if step is make else supervised.secrets()
    supervised.proxy.writes, supervised.proxy.on_write = 0, strike
    step(supervised)
    resource = supervised.settle()
    supervised.proxy.on_write = lambda *_: None
    supervised.check_whole(resource)
    after = supervised.secrets()
    assert before.items() <= after.items(), "credentials are made once"
    assert sorted(after) == ["demo-auth", "demo-mem0-db", "demo-mem0-key", "demo-metis-db"]
    return killed


def test_killed_now_and_then(supervised: Supervised) -> None:
    for step, number, when in zip(STEPS, (3, 9, 5), ("after", "before", "after"), strict=True):
        assert run_and_kill(supervised, step, number, when)
    assert supervised.supervisor.ends == [-9] * 3


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("step", STEPS)
def test_killed_after_every_write(supervised: Supervised, step: Step) -> None:
    make(supervised)
    supervised.settle()
    kills = 0
    while run_and_kill(supervised, step, kills + 1, "after"):
        kills += 1
    assert kills > 8, "there are more writes than that"
    assert set(supervised.supervisor.ends) == {-9}
