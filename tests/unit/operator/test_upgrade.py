from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from metis_operator.core.manifests import build
from metis_operator.core.objects import CONFIG_MAP, DEPLOYMENT, Key, Object, Owner
from metis_operator.core.plan import plan
from metis_operator.core.upgrade import (
    PATIENCE,
    State,
    Upgrade,
    is_rolled_by,
    while_waiting,
)

KEY = Key(DEPLOYMENT, "team", "demo-app")
MAP = Key(CONFIG_MAP, "team", "demo-app")


def rendered(image: str, owner: Owner) -> dict[Key, Object]:
    def document(kind: Any, **more: Any) -> Object:
        what = {"apiVersion": kind.api_version, "kind": kind.kind}
        return what | {"metadata": {"name": "demo-app", "namespace": "team"}} | more

    return build(
        [
            document(DEPLOYMENT, spec={"template": {"image": image}}),
            document(CONFIG_MAP, data={"image": image}),
        ],
        owner,
    )


def live(objects: dict[Key, Object]) -> dict[Key, Object]:
    found = copy.deepcopy(objects)
    for obj in found.values():
        obj["metadata"]["uid"] = "u"
    return found


def test_a_new_rendering_rolls_and_drift_does_not(owner: Owner) -> None:
    old, new = rendered("1", owner), rendered("2", owner)
    there = live(old)
    assert is_rolled_by(plan(new, there, [], owner), there)
    there[KEY]["spec"]["template"]["image"] = "edited"
    actions = plan(old, there, [], owner)
    assert actions
    assert not is_rolled_by(actions, there), "drift is put back at once"
    assert not is_rolled_by(plan(new, {}, [], owner), {}), "what is new rolls nothing"
    there = live(old) | {KEY: live(new)[KEY]}
    assert not is_rolled_by(plan(new, there, [], owner), there), "no pod is touched"


def test_while_it_waits_only_what_is_missing_is_made_again(owner: Owner) -> None:
    old, new = rendered("1", owner), rendered("2", owner)
    there = live(old)
    del there[MAP]
    actions = plan(new, there, list(old), owner)
    assert {a.key for a in actions} == {KEY, MAP}
    assert [a.key for a in while_waiting(actions, there, list(old))] == [MAP]
    assert while_waiting(actions, there, []) == [], "what only the new rendering has can wait"


def admit(upgrade: Upgrade, who: str, *, was_ready: bool = True) -> bool:
    return upgrade.admit(who, was_ready=was_ready, now=0)


def report(
    upgrade: Upgrade, who: str, *, ready: bool = False, trouble: bool = False, now: float = 1
) -> State | None:
    return upgrade.report(who, ready=ready, trouble=trouble, now=now)


def test_so_many_at_a_time_and_the_next_when_one_is_ready() -> None:
    upgrade = Upgrade(2)
    assert [admit(upgrade, who) for who in "abcd"] == [True, True, False, False]
    assert admit(upgrade, "a"), "who rolls goes on"
    assert report(upgrade, "a") is State.ROLLING
    assert report(upgrade, "c") is State.WAITING
    assert upgrade.due() == []
    assert report(upgrade, "a", ready=True) is None
    assert upgrade.due() == ["c"]
    assert admit(upgrade, "c")
    assert upgrade.counts() == {State.WAITING: 1, State.ROLLING: 2, State.FAILED: 0}


def test_a_failed_rollout_stops_the_upgrade_until_it_is_put_right() -> None:
    upgrade = Upgrade(2)
    for who in "abc":
        admit(upgrade, who)
    assert report(upgrade, "a", trouble=True) is State.FAILED
    assert report(upgrade, "b", ready=True) is None
    assert upgrade.is_stopped
    assert upgrade.due() == []
    assert not admit(upgrade, "c"), "a free slot is of no use now"
    assert report(upgrade, "a") is State.ROLLING, "it may have been a passing one"
    assert report(upgrade, "a", now=PATIENCE + 1) is State.FAILED, "or takes too long"
    assert report(upgrade, "a", ready=True, now=PATIENCE + 2) is None
    assert upgrade.due() == ["c"]


def test_one_that_leaves_holds_nobody_up() -> None:
    upgrade = Upgrade(1)
    for who in "ab":
        admit(upgrade, who)
    report(upgrade, "a", trouble=True)
    upgrade.leave("a")
    assert upgrade.due() == ["b"]


def test_what_was_in_trouble_before_proves_nothing() -> None:
    upgrade = Upgrade(1)
    admit(upgrade, "a", was_ready=False)
    admit(upgrade, "b")
    assert report(upgrade, "a", trouble=True) is None
    assert not upgrade.is_stopped
    assert upgrade.due() == ["b"]


def test_a_restarted_operator_takes_up_what_the_status_says() -> None:
    upgrade = Upgrade(1)
    for who, state in (("a", "Failed"), ("b", "Waiting"), ("c", "")):
        upgrade.resume(who, state, now=0)
    assert upgrade.is_stopped
    assert not admit(upgrade, "b")
    assert report(upgrade, "a", ready=True) is None
    assert upgrade.due() == ["b"]


moves = st.lists(
    st.tuples(
        st.sampled_from("abcdef"),
        st.sampled_from(["admit", "ready", "trouble", "on its way", "leave"]),
    ),
    max_size=60,
)


@given(moves, st.integers(1, 3))
def test_never_more_than_the_limit_and_none_begins_while_it_is_stopped(
    told: list[tuple[str, str]], limit: int
) -> None:
    upgrade = Upgrade(limit)
    for who, move in told:
        stopped = upgrade.is_stopped
        rolling = set(upgrade._rolling)
        if move == "admit":
            admitted = admit(upgrade, who)
            assert admitted == (who in upgrade._rolling)
            assert not (stopped and admitted and who not in rolling)
        elif move == "leave":
            upgrade.leave(who)
        else:
            report(upgrade, who, ready=move == "ready", trouble=move == "trouble")
        assert len(upgrade._rolling) <= limit
        assert not set(upgrade._rolling) & set(upgrade._waiting)
