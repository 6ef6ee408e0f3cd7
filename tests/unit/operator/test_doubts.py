from __future__ import annotations

import asyncio

from metis_operator.core.objects import METISRAG, SECRET, SERVICE
from metis_operator.doubts import Doubts


def test_what_was_listed_is_told_by_kind_and_once() -> None:
    async def settle() -> None:
        doubts = Doubts(quiet=0.0)
        doubts.listed(SERVICE, "a")
        doubts.listed(SERVICE, "b")
        doubts.begun(SECRET)
        assert await doubts.settled() == {SERVICE: {"a", "b"}, SECRET: set()}
        doubts.listed(METISRAG, "c")
        assert await doubts.settled() == {METISRAG: {"c"}}

    asyncio.run(settle())


def test_doubt_of_everything_outweighs_what_was_listed() -> None:
    async def settle() -> None:
        doubts = Doubts(quiet=0.0)
        doubts.listed(SERVICE, "a")
        doubts.everything([SERVICE, SECRET])
        doubts.listed(SECRET, "b")
        assert await doubts.settled() == {SERVICE: None, SECRET: None}

    asyncio.run(settle())


def test_a_list_that_begins_again_is_worth_a_look_at_all() -> None:
    """What the former list told of may have gone before the second."""

    async def settle() -> None:
        doubts = Doubts(quiet=0.0)
        doubts.begun(SERVICE)
        doubts.listed(SERVICE, "a")
        doubts.begun(SERVICE)
        doubts.begun(SECRET)
        doubts.listed(SECRET, "b")
        assert await doubts.settled() == {SERVICE: None, SECRET: {"b"}}

    asyncio.run(settle())


def test_lists_that_go_on_are_waited_for() -> None:
    now = 100.0

    async def settle() -> None:
        nonlocal now
        doubts = Doubts(quiet=0.01, clock=lambda: now)
        settled = asyncio.create_task(doubts.settled())
        doubts.listed(SERVICE, "a")
        await asyncio.wait([settled], timeout=0.1)
        assert not settled.done()
        now += 0.009
        doubts.listed(SERVICE, "b")
        now += 0.009
        await asyncio.wait([settled], timeout=0.1)
        assert not settled.done()
        now += 0.01
        assert await asyncio.wait_for(settled, timeout=5) == {SERVICE: {"a", "b"}}

    asyncio.run(settle())
