"""After a failure nobody waits twice, and one caller at a time goes to see."""

import pytest

from app.rag.mem0_errors import Mem0DownError, Mem0UnreachableError
from app.rag.mem0_http import Outage


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def outage(clock):
    return Outage(1.0, clock)


def test_nothing_is_held_back_while_all_is_well(outage):
    outage.check()
    outage.end()
    outage.check()


def test_a_failure_is_remembered_for_a_while(outage, clock):
    outage.begin()
    clock.now += 0.9
    with pytest.raises(Mem0DownError, match=r"asked again in 0\.1 s"):
        outage.check()
    clock.now += 0.1
    outage.check()


def test_when_the_time_is_over_one_caller_goes_and_the_others_do_not_wait(outage, clock):
    outage.begin()
    clock.now += 1
    outage.check()
    with pytest.raises(Mem0UnreachableError):
        outage.check()
    clock.now += 1  # the one who went never came back with word
    outage.check()


def test_an_answer_ends_it_for_all(outage, clock):
    outage.begin()
    clock.now += 1
    outage.check()
    outage.end()
    outage.check()
    outage.check()
