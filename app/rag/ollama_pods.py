"""What each of several Ollamas has, also those that get no requests yet for want of a model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.pull.names import is_same
from app.pull.server import Server, ServerError
from app.pull.work import by_name


async def lacking(place: str, models: Sequence[str]) -> str:
    """Which of ``models`` are not on every Ollama that ``place`` (HOST:PORT) has an address of.

    Empty when none is lacking, or none of them answers.
    """
    host, _, port = place.rpartition(":")
    addresses = await by_name(host, int(port))()
    answers = await asyncio.gather(*(_held(address) for address in addresses))
    found = [names for names in answers if names is not None]
    told = []
    for model in models:
        without = sum(not any(is_same(n, model) for n in names) for names in found)
        if without:
            where = "the model server" if len(found) == 1 else f"{without} of {len(found)} servers"
            told.append(f"{model}: not yet on {where}, it may still be pulled")
    return "; ".join(told)


async def _held(address: str) -> list[str] | None:
    server = Server(f"http://{address}")
    try:
        return [held.name for held in await server.models()]
    except ServerError:
        return None
    finally:
        await server.close()
