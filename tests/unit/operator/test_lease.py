from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from metis_operator.core.lease import Terms, holder_of, is_free, released, taken
from metis_operator.core.objects import LEASE, Key

KEY = Key(LEASE, "system", "metis-operator")
TERMS = Terms()


def stored(lease: dict[str, Any], version: int) -> dict[str, Any]:
    return {**lease, "metadata": {**lease["metadata"], "resourceVersion": str(version)}}


def test_a_lease_is_free_when_absent_released_ours_or_left_alone() -> None:
    lease = stored(taken(KEY, None, "a", TERMS, "t1"), 1)
    assert is_free(None, "b", 0)
    assert not is_free(lease, "b", TERMS.duration - 0.1)
    assert is_free(lease, "b", TERMS.duration)
    assert is_free(lease, "a", 0)
    assert is_free(released(KEY, lease, "t2"), "b", 0)


def test_what_is_written_guards_what_was_read_and_counts_the_changes() -> None:
    first = taken(KEY, None, "a", TERMS, "t1")
    assert "resourceVersion" not in first["metadata"], "a creation: only one can succeed"
    renewed = taken(KEY, stored(first, 5), "a", TERMS, "t2")
    assert renewed["metadata"]["resourceVersion"] == "5"
    assert (renewed["spec"]["acquireTime"], renewed["spec"]["renewTime"]) == ("t1", "t2")
    assert renewed["spec"]["leaseTransitions"] == 0
    other = taken(KEY, stored(renewed, 6), "b", TERMS, "t3")
    assert (other["spec"]["acquireTime"], other["spec"]["leaseTransitions"]) == ("t3", 1)


def test_the_holder_ends_before_another_one_may_begin() -> None:
    assert TERMS.deadline + TERMS.interval < TERMS.duration
    assert TERMS.duration + 2 * TERMS.interval < 15, "takeover after a kill"


steps = st.lists(
    st.tuples(st.sampled_from("abc"), st.floats(0.01, 12, allow_nan=False)), max_size=60
)


@given(steps)
def test_never_do_two_hold_it(turns: list[tuple[str, float]]) -> None:
    """Whoever comes when, however late: a holder's own clock ends before the next one begins."""
    now, version = 0.0, 0
    lease: dict[str, Any] | None = None
    seen: dict[str, tuple[int, float]] = {}
    renewed: dict[str, float] = {}
    for who, pause in turns:
        now += pause
        if seen.get(who, (None, 0))[0] != version:
            seen[who] = (version, now)
        if is_free(lease, who, now - seen[who][1]):
            version += 1
            lease = stored(taken(KEY, lease, who, TERMS, str(now)), version)
            renewed[who] = now
        holders = [n for n, at in renewed.items() if now < at + TERMS.deadline]
        assert len(holders) <= 1
        assert not holders or lease is None or holder_of(lease) == holders[0]
