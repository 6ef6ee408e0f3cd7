"""A rotation that is killed anywhere goes on, and nobody is refused meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from metis_operator.cluster import Cluster, connect

from tests.component.operator.rotating import PURPOSES, Stage, a_demo, ask, rotation, turn
from tests.component.operator.world import World


class Killed(BaseException):
    """The process ended here."""


class Mortal:
    """A cluster that ends the process before or after the n-th write."""

    def __init__(self, cluster: Cluster, last: int, *, after: bool) -> None:
        self._cluster, self._left, self._after = cluster, last, after

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._cluster, name)
        if name not in ("merge", "create", "delete"):
            return real

        async def write(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left < 0 and not self._after:
                raise Killed
            answer = await real(*args, **kwargs)
            if self._left < 0:
                raise Killed
            return answer

        return write


@pytest.mark.parametrize(
    ("purpose", "after"),
    [
        ("mem0-key", False),
        ("metis-db", True),
        pytest.param("mem0-key", True, marks=pytest.mark.full),
        pytest.param("metis-db", False, marks=pytest.mark.full),
    ],
)
async def test_it_is_killed_at_each_write_and_goes_on(
    stage: Stage, config: Any, purpose: str, after: bool
) -> None:
    """Each attempt ends one write later than the last one; all but the last are killed."""
    old = stage.secret(purpose)
    rounds = 0
    async with connect(config) as cluster:
        while True:
            assert rounds < 40
            mortal = Mortal(cluster, rounds // 2, after=after)
            try:
                await turn(mortal, stage, purpose, token="t1")
            except Killed:
                rounds += 1
                if rounds % 5 == 0:  # and pods come and go
                    await asyncio.to_thread(stage.add, "mem0")
                    await asyncio.to_thread(stage.add, "app")
                    await asyncio.to_thread(stage.remove, stage.pods[0])
                continue
            break
    assert rounds >= 4
    new = stage.secret(purpose)
    assert new.keys() == old.keys()
    assert new != old
    assert stage.refused == []


@contextmanager
def crowd(stage: Stage) -> Iterator[None]:
    """Pods are added, removed and replaced all the while, two of each kind at least."""
    stop = threading.Event()

    def come_and_go() -> None:
        for number in itertools.count():
            if stop.wait(0.5):
                return
            component = ("mem0", "app")[number % 2]
            stage.add(component)
            there = [p for p in stage.pods if p.component == component]
            if len(there) > 2 + number // 2 % 2:
                stage.remove(there[0])

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("purpose", PURPOSES)
async def test_killed_at_each_write_of_its_own_rotation(
    stage: Stage, config: Any, purpose: str
) -> None:
    """From rest, with pods that come and go: each write is the last one of a process, once before
    and once after it was made; the next process ends what that one began."""
    ends = {"mem0-key": {"current"}}.get(purpose, {"username", "password", "superuser-password"})
    kills = 0
    async with connect(config) as cluster:
        with crowd(stage):
            for number, after in itertools.product(range(60), (False, True)):
                old, token = stage.secret(purpose), f"{number}-{after}"
                try:
                    await turn(Mortal(cluster, number, after=after), stage, purpose, token=token)
                except Killed:
                    kills += 1
                    await turn(cluster, stage, purpose, token=token)
                else:
                    break
                new = stage.secret(purpose)
                assert new.keys() == ends
                assert new != old, "it was asked for, and is to be done"
    print(f"{purpose}: killed {kills} times")
    assert kills >= 16
    assert stage.refused == []


@pytest.mark.full
def test_killed_in_every_phase_it_goes_on(
    world: World, tmp_path: Path, wait: Callable[..., Any]
) -> None:
    """The real process, by SIGKILL, while a pod holds each phase; and pods change under it."""

    def kill_in(phase: str) -> None:
        wait(lambda: rotation(world, "mem0-key").get("phase") == phase, timeout=60)
        world.operator.kill()
        stage.remove(next(p for p in stage.pods if p is not server and p is not client))
        stage.add("mem0")
        stage.add("app")
        world.operator.start()

    with a_demo(world, tmp_path, {}) as stage:
        old = stage.secret("mem0-key")["current"]
        server = stage.add("mem0", deaf=True)
        client = stage.add("app", deaf=True)
        ask(world, "one", "mem0-key")
        kill_in("Preparing")
        assert stage.secret("mem0-key").keys() == {"current", "next"}
        server.deaf = False
        kill_in("Switching")
        assert stage.secret("mem0-key").keys() == {"current", "previous"}
        server.deaf, client.deaf = True, False
        kill_in("Revoking")
        assert stage.secret("mem0-key").keys() == {"current", ".revoked"}
        assert server.accepts(old)
        server.deaf = False
        wait(lambda: rotation(world, "mem0-key").get("phase") == "Idle", timeout=60)
        assert stage.secret("mem0-key").keys() == {"current"}
        assert not any(p.accepts(old) for p in stage.pods if p.component == "mem0")
        assert stage.refused == []
