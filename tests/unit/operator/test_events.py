from __future__ import annotations

from itertools import pairwise
from typing import Any

from metis_operator.events import Topic, is_news


def status(phase: str, reason: str, generation: int = 1) -> dict[str, Any]:
    return {
        "phase": phase,
        "observedGeneration": generation,
        "conditions": [{"type": "Ready", "reason": reason}],
    }


NEW = {"observedGeneration": -1}
STARTING = status("Progressing", "Progressing")
CRASH = status("Degraded", "CrashLoop")
PULL = status("Degraded", "ImagePullError")
BETWEEN = status("Degraded", "Progressing")
READY = status("Ready", "AllComponentsReady")


def run(*statuses: dict[str, Any]) -> list[bool]:
    told: set[Topic] = set()
    return [is_news(a, b, told) for a, b in pairwise(statuses)]


def test_a_life_is_told_in_its_stages() -> None:
    assert run(NEW, STARTING, READY) == [True, True]


def test_a_crash_loop_is_told_once() -> None:
    assert run(STARTING, CRASH, BETWEEN, CRASH, BETWEEN, CRASH) == [True, *[False] * 4]


def test_a_different_trouble_is_told_too() -> None:
    assert run(STARTING, CRASH, PULL, CRASH) == [True, True, False]


def test_after_all_was_well_the_same_trouble_is_news_again() -> None:
    assert run(STARTING, CRASH, READY, CRASH, READY) == [True] * 4


def test_what_stops_being_ready_is_told_even_without_a_reason() -> None:
    assert run(STARTING, READY, BETWEEN, CRASH) == [True, True, True]


def test_a_new_spec_is_a_new_story() -> None:
    assert run(STARTING, CRASH, status("Degraded", "ImagePullError", 2)) == [True, True]


def test_after_a_restart_nothing_is_told_twice() -> None:
    assert not is_news(CRASH, CRASH, set())
