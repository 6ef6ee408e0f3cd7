"""When rotations are due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metis_operator.core.schedule import SPREAD, Rules, next_time, seconds

HOUR, DAY = 3600.0, 86400.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("30d", 30 * DAY), ("12h", 12 * HOUR), ("1h30m", 5400), ("45s", 45)],
)
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


def test_zero_is_never() -> None:
    assert next_time(0, Rules(), 1e9) is None
    assert next_time(0, Rules.of({"interval": "0", "window": "1-5"}, "x"), 1e9) is None


@given(seed=st.text(), interval=st.floats(60, 1e7))
def test_early_by_at_most_a_tenth_and_always_the_same(seed: str, interval: float) -> None:
    rules = Rules(interval, seed=seed)
    due = next_time(1000.0, rules, 1000.0)
    assert due is not None
    assert 1000 + interval * (1 - SPREAD) <= due <= 1000 + interval
    assert next_time(1000.0, rules, 1500.0) == due


def test_instances_do_not_come_all_at_once() -> None:
    dues = {next_time(0.0, Rules(DAY, seed=f"u{n}"), 0.0) for n in range(50)}
    assert len(dues) == 50


@given(
    now=st.floats(0, 1e9),
    last=st.floats(0, 1e9),
    window=st.tuples(st.integers(0, 23), st.integers(0, 24)),
)
def test_it_begins_only_while_the_window_is_open(
    now: float, last: float, window: tuple[int, int]
) -> None:
    rules = Rules(DAY, window, "seed")
    due = next_time(last, rules, now)
    assert due is not None
    moment = max(due, now)
    hour = (moment % DAY) / HOUR
    first, end = window
    inside = first <= hour < end if first < end else hour >= first or hour < end
    assert inside or first == end
    assert due >= last + DAY * (1 - SPREAD)
    assert moment <= max(now, last + DAY) + DAY


def test_a_due_time_that_has_passed_stays_the_same() -> None:
    rules = Rules(DAY, (0, 24), "seed")
    assert next_time(0.0, rules, 5 * DAY + 1) == next_time(0.0, rules, 5 * DAY + 2)
