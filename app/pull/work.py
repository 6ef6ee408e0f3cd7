"""Bringing a model to each server, until all have it: retried, resumed, never given up."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace

from app.pull import space
from app.pull.names import from_mirror, is_same
from app.pull.progress import Progress, State, Stream, together
from app.pull.server import Held, Server, ServerError

LOOK = 2.0
"""Seconds between two looks at which servers there are."""
FIRST, LONGEST, NEVER_FITS = 1.0, 60.0, 600.0
"""Seconds to the next try: after the first failure, at most, and where only a person can help."""

Resolve = Callable[[], Awaitable[list[str]]]
"""Gives the addresses (HOST:PORT) of the servers there are now."""


@dataclass(frozen=True)
class Wish:
    """What is to be done."""

    model: str
    registry: str = ""
    insecure: bool = False
    volume: int = 0
    """Bytes of the volume that the models are in; 0 where that is not known."""

    @property
    def source(self) -> str:
        """The name under which it is pulled."""
        return from_mirror(self.model, self.registry)


class Puller:
    """Brings the model to one server. ``progress`` tells how far it is."""

    def __init__(self, wish: Wish, address: str) -> None:
        self._wish = wish
        self._server = Server(f"http://{address}")
        self._told: Progress | None = None
        self._stream = Stream()
        self._warning = ""
        self._others: list[Held] = []

    @property
    def progress(self) -> Progress:
        """How far it is now."""
        if self._told is not None:
            return self._told
        found = self._stream.progress(time.monotonic())
        return found if found.message else replace(found, message=self._warning)

    async def run(self) -> None:
        """Ends when the server has the model."""
        failures = 0
        try:
            while not await self._try():
                failures = 0 if self._stream.moved else failures + 1
                await asyncio.sleep(self._delay(failures))
        finally:
            await self._server.close()

    async def _try(self) -> bool:
        try:
            if await self._is_there():
                self._told = Progress(State.READY)
                return True
            await self._pull()
        except ServerError as error:
            known = self._stream.progress(time.monotonic())
            self._told = Progress(
                State.WAITING, str(error), completed=known.completed, total=known.total
            )
        return False

    async def _is_there(self) -> bool:
        """Looked at first: without a way to the registry a pull fails though the model is there."""
        held = await self._server.models()
        there = any(is_same(h.name, self._wish.model) for h in held)
        self._others = [h for h in held if not is_same(h.name, self._wish.source)]
        if there and self._wish.source != self._wish.model and len(self._others) < len(held):
            await self._server.delete(self._wish.source)  # its second name, left by a pull
        return there

    async def _pull(self) -> None:
        self._stream, self._told, self._warning = Stream(), None, ""
        wish = self._wish
        async with aclosing(self._server.pull(wish.source, insecure=wish.insecure)) as lines:
            async for line in lines:
                self._stream.take(line, time.monotonic())
                no_room = space.refusal(self._stream.total, wish.volume)
                self._warning = space.warning(self._stream.total, wish.volume, self._others)
                if no_room or self._stream.error:
                    self._fail(no_room or self._stream.error)
                    return
        if not self._stream.succeeded:
            raise ServerError(f"{self._server.url} ended the pull without a reason")
        if wish.source != wish.model:
            await self._server.copy(wish.source, wish.model)

    def _fail(self, reason: str) -> None:
        known = self._stream.progress(time.monotonic())
        cure = space.cure(reason)
        said = f"{reason}; {cure}" if cure else reason
        self._told = Progress(State.FAILED, said, completed=known.completed, total=known.total)

    def _delay(self, failures: int) -> float:
        if self._told is None:
            return 0.0  # It was pulled: see whether it is there.
        if space.refusal(self._stream.total, self._wish.volume):
            return NEVER_FITS
        longest = min(LONGEST, FIRST * 2.0 ** min(failures, 16))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311  so that not all come at once


class Everywhere:
    """Brings the model to all servers; ``shared`` where all of them have one volume."""

    def __init__(self, wish: Wish, resolve: Resolve, replicas: int, *, shared: bool) -> None:
        self._wish = wish
        self._resolve = resolve
        self._wanted = 1 if shared else replicas
        self._shared = shared
        self._pullers: dict[str, Puller] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def progress(self) -> Progress:
        """How far it is on all of them together."""
        found = [self._pullers[address].progress for address in sorted(self._pullers)]
        told = together(found)
        if told.state is State.READY and len(found) < self._wanted:
            message = f"{len(found)} of {self._wanted} servers have it; the others do not run yet"
            return Progress(State.WAITING, message)
        return told

    async def run(self) -> None:
        """Ends when as many servers as there should be have the model, and none lacks it."""
        try:
            while not self._is_done:
                self._follow(await self._resolve())
                await self._pause()
        finally:
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    @property
    def _is_done(self) -> bool:
        return bool(self._pullers) and self.progress.state is State.READY

    def _follow(self, addresses: list[str]) -> None:
        """Begin with servers that are new, and leave those that are gone."""
        chosen = sorted(addresses)[:1] if self._shared else addresses
        for address in set(self._tasks) - set(chosen):
            self._tasks.pop(address).cancel()
            del self._pullers[address]
        for address in set(chosen) - set(self._tasks):
            puller = self._pullers[address] = Puller(self._wish, address)
            self._tasks[address] = asyncio.create_task(puller.run())

    async def _pause(self) -> None:
        """A while, or until a server has the model; a bug in one ends all."""
        running = [t for t in self._tasks.values() if not t.done()]
        if not running:
            await asyncio.sleep(0 if self._is_done else LOOK)
        else:
            await asyncio.wait(running, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
        for task in self._tasks.values():
            if task.done():
                task.result()


def by_name(host: str, port: int) -> Resolve:
    """The servers whose addresses ``host`` has in the DNS; each pod has one there."""

    async def resolve() -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            return []
        # In a cluster of both families each pod stands there twice.
        families = {family for family, *_ in found}
        chosen = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
        hosts = {str(address[0]) for family, *_, address in found if family == chosen}
        return sorted(f"[{h}]:{port}" if ":" in h else f"{h}:{port}" for h in hosts)

    return resolve
