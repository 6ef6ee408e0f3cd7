"""A steady load from inside the cluster; runs in a pod of the app's image.

RATE requests a second through the app and as many straight at the memory server, at fixed times
whatever the answers take. No request is sent twice: what is not answered well has failed. The key
for the memory server is read from the mounted Secret for each request. Writes one line a request:
time, target, latency in ms, and "ok" or what was wrong.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

RATE = int(os.environ["RATE"])
SECRETS = Path("/run/secrets")
AGENT, HUMAN = "load-agent", "load-human"

Request = Callable[[httpx.AsyncClient, int], Awaitable[str]]


def key() -> str:
    return (SECRETS / "mem0" / "current").read_text().strip()


def said(response: httpx.Response) -> str:
    return "ok" if response.status_code in (200, 201) else f"{response.status_code}"


async def through_the_app(client: httpx.AsyncClient, number: int) -> str:
    """In turn: a write to Mem0, a read of it, and two reads of metis-postgres."""
    match number % 4:
        case 0:
            return said(await client.put("/api/memory/preferences", json={"style": f"s{number}"}))
        case 1:
            response = await client.get("/api/memory")
            status = response.json().get("status") if response.status_code == 200 else None
            return "ok" if status == "ok" else f"{response.status_code} memory {status}"
        case 2:
            return said(await client.get("/api/documents"))
        case _:
            return said(await client.get("/api/chat/conversations"))


async def straight_at_mem0(client: httpx.AsyncClient, number: int) -> str:
    """In turn: append a message, and read them."""
    headers = {"X-API-Key": key()}
    path = f"/agents/{AGENT}/humans/{HUMAN}/recall"
    if number % 2:
        return said(await client.get(path, params={"limit": 5}, headers=headers))
    body = {"role": "user", "content": f"message {number}"}
    return said(await client.post(path, json=body, headers=headers))


async def steadily(name: str, client: httpx.AsyncClient, request: Request) -> None:
    """Send for ever, each request at its time."""
    begun, tasks = time.monotonic(), set()
    for number in itertools.count():
        await asyncio.sleep(max(0.0, begun + number / RATE - time.monotonic()))
        task = asyncio.create_task(one(name, client, request, number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def one(name: str, client: httpx.AsyncClient, request: Request, number: int) -> None:
    started = time.time()
    try:
        result = await request(client, number)
    except (httpx.HTTPError, OSError, ValueError) as error:
        result = type(error).__name__
    took = (time.time() - started) * 1000
    print(f"{started:.3f} {name} {took:.1f} {result}", flush=True)


async def main() -> None:
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=20)
    admin = (SECRETS / "auth" / "admin-key").read_text().strip()
    async with (
        httpx.AsyncClient(
            base_url=os.environ["APP"], headers={"Authorization": f"Bearer {admin}"},
            timeout=10, limits=limits,
        ) as app,
        httpx.AsyncClient(base_url=os.environ["MEM0"], timeout=10, limits=limits) as mem0,
    ):  # fmt: skip
        headers = {"X-API-Key": key()}
        for path, body in (
            (f"/agents/{AGENT}", {"name": "Load", "persona": "none"}),
            (f"/humans/{HUMAN}", {"name": "Load"}),
        ):
            (await mem0.put(path, json=body, headers=headers)).raise_for_status()
        await asyncio.gather(
            steadily("app", app, through_the_app), steadily("mem0", mem0, straight_at_mem0)
        )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    asyncio.run(main())
