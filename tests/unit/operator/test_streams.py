from __future__ import annotations

import asyncio
from dataclasses import dataclass

import kopf
import pytest
from metis_operator.core.objects import HTTP_ROUTE, METISRAG, SERVICE
from metis_operator.streams import LIMIT, Streams


@dataclass
class Answer:
    status: int = 200
    closed: bool = False


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def streams(clock: Clock) -> Streams:
    return Streams([SERVICE.path(), METISRAG.path()], clock=clock)


def after(streams: Streams, clock: Clock, seconds: float, *, up: bool = True) -> str | None:
    """What is dead so much later, with a look each second."""
    found = streams.dead(up=up)
    for _ in range(int(seconds)):
        clock.now += 1
        found = streams.dead(up=up)
    return found


def test_a_watch_that_never_came_to_be(streams: Streams, clock: Clock) -> None:
    streams.note(METISRAG.path(), Answer())
    assert after(streams, clock, LIMIT) is None
    assert after(streams, clock, 2) == "/api/v1/services"


def test_thousands_that_are_listed_first_keep_a_watch_waiting(
    streams: Streams, clock: Clock
) -> None:
    streams.note(METISRAG.path(), Answer())
    for _ in range(5):
        assert after(streams, clock, LIMIT) is None
        streams.listed("/api/v1/services")
    assert after(streams, clock, LIMIT + 2) == "/api/v1/services"


def test_lists_are_told_of() -> None:
    told: list[str] = []
    streams = Streams([SERVICE.path()], told.append)
    streams.listed(SERVICE.path(), first=True)
    streams.listed(SERVICE.path())
    streams.listed(HTTP_ROUTE.path(), first=True)
    assert told == [SERVICE.path(), HTTP_ROUTE.path()]


def test_a_list_says_nothing_for_a_watch_that_is_refused(streams: Streams, clock: Clock) -> None:
    streams.note(METISRAG.path(), Answer())
    streams.note("/api/v1/services", Answer(status=403))
    assert after(streams, clock, LIMIT) is None
    streams.listed("/api/v1/services")
    assert after(streams, clock, 2) == "/api/v1/services"


def test_an_open_watch_is_alive_for_good(streams: Streams, clock: Clock) -> None:
    for path in (SERVICE.path(), METISRAG.path()):
        streams.note(path, Answer())
    assert after(streams, clock, 10 * LIMIT) is None


@pytest.mark.parametrize("last", [Answer(closed=True), Answer(status=410), Answer(status=404)])
def test_a_watch_that_ended_and_is_not_opened_again(
    streams: Streams, clock: Clock, last: Answer
) -> None:
    streams.note(SERVICE.path(), Answer())
    streams.note(METISRAG.path(), Answer())
    assert after(streams, clock, 5) is None
    streams.note(METISRAG.path(), last)
    assert after(streams, clock, LIMIT - 1) is None
    assert after(streams, clock, 3) == METISRAG.path()


def test_what_a_cluster_may_lack_may_go(streams: Streams, clock: Clock) -> None:
    for path in (SERVICE.path(), METISRAG.path(), HTTP_ROUTE.path()):
        streams.note(path, Answer())
    streams.note(HTTP_ROUTE.path(), Answer(status=404))
    assert after(streams, clock, 2 * LIMIT) is None


def test_a_watch_that_is_opened_again_in_time(streams: Streams, clock: Clock) -> None:
    streams.note(METISRAG.path(), Answer())
    for _ in range(5):
        answer = Answer()
        streams.note(SERVICE.path(), answer)
        assert after(streams, clock, 300) is None
        answer.closed = True
        assert after(streams, clock, LIMIT - 5) is None


def test_nothing_is_asked_of_a_watch_while_the_api_server_is_away(
    streams: Streams, clock: Clock
) -> None:
    assert after(streams, clock, 3 * LIMIT, up=False) is None
    assert after(streams, clock, LIMIT) is None
    assert after(streams, clock, 2) is not None


def test_the_same_login_is_the_same_session() -> None:
    """Kopf tells by that that the API server refused it before."""

    async def sessions() -> tuple[kopf.AiohttpSession, ...]:
        streams = Streams()
        infos = [
            kopf.ConnectionInfo(server="https://x", token=token, priority=3)
            for token in ("one", "one", "other")
        ]
        found = tuple(streams.session(info) for info in infos)
        for session in found:
            await session.aiohttp_session.close()
        return found

    first, again, other = asyncio.run(sessions())
    assert first is again
    assert first != other
    assert (first.server, first.priority) == ("https://x", 3)
    assert first.aiohttp_session.headers["Authorization"] == "Bearer one"
    assert first.aiohttp_session.headers["Accept-Encoding"] == "identity"


def test_the_paths_of_kinds() -> None:
    assert SERVICE.path() == "/api/v1/services"
    assert METISRAG.path("a") == "/apis/metisrag.dev/v1alpha1/namespaces/a/metisrags"
    assert HTTP_ROUTE.path() == "/apis/gateway.networking.k8s.io/v1/httproutes"
