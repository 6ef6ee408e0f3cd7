"""Removing the models that nobody names any more, where that was asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable

from app.pull.names import is_same
from app.pull.server import Held, Server, ServerError
from app.pull.work import Resolve

GRACE = 120.0
"""Seconds for which all wanted models have been there, before others go: while pods of the app that
use the former ones are still replaced."""
PAUSE = 15.0


def unwanted(
    held: Iterable[Held], wanted: Collection[str], loaded: Collection[str]
) -> tuple[list[str], list[str]]:
    """``(now, later)``: what to delete, and what is unwanted but was in use of late."""
    others = [h.name for h in held if not any(is_same(h.name, w) for w in wanted)]
    used = [n for n in others if any(is_same(n, other) for other in loaded)]
    return [n for n in others if n not in used], used


def lacks(held: Iterable[Held], wanted: Collection[str]) -> list[str]:
    """The wanted models that are not there."""
    names = [h.name for h in held]
    return [w for w in wanted if not any(is_same(w, name) for name in names)]


class Pruner:
    """Deletes unwanted models from all servers, when those have all that is wanted."""

    def __init__(
        self,
        wanted: Collection[str],
        resolve: Resolve,
        replicas: int,
        say: Callable[[str], None],
        grace: float = GRACE,
        pause: float = PAUSE,
    ) -> None:
        self._wanted = wanted
        self._resolve = resolve
        self._replicas = replicas
        self._say = say
        self._grace = grace
        self._pause = min(pause, max(grace, 0.1))
        self._said = ""

    async def run(self) -> None:
        """Ends when no server has an unwanted model."""
        await self._until(self._are_complete)
        await asyncio.sleep(self._grace)
        await self._until(self._are_clean)

    async def _until(self, check: Callable[[], Awaitable[bool]]) -> None:
        while True:
            if await check():
                return
            await asyncio.sleep(self._pause)

    async def _are_complete(self) -> bool:
        addresses = await self._resolve()
        if len(addresses) < self._replicas:
            self._tell(f"waits for {self._replicas} servers, {len(addresses)} run")
            return False
        for address in addresses:
            server = Server(f"http://{address}")
            try:
                missing = lacks(await server.models(), self._wanted)
            except ServerError as error:
                missing = [str(error)]
            finally:
                await server.close()
            if missing:
                self._tell(f"waits until {address} has {', '.join(missing)}")
                return False
        return True

    async def _are_clean(self) -> bool:
        clean = True
        for address in await self._resolve():
            server = Server(f"http://{address}")
            try:
                now, later = unwanted(await server.models(), self._wanted, await server.loaded())
                for name in now:
                    await server.delete(name)
                    self._say(f"prune: {name} deleted from {address}: no value names it")
                if later:
                    self._tell(f"{', '.join(later)}: still in use; deleted when it is not")
                clean = clean and not later
            except ServerError as error:
                self._tell(str(error))
                clean = False
            finally:
                await server.close()
        return clean

    def _tell(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self._say(f"prune: {line}")
