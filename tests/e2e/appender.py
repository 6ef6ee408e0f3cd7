"""Appends messages to a Mem0 server at a steady rate, from a pod; prints what came of each.

Runs in the cluster with the memory server's own image, so that it goes through the Service as the
app does. Each conversation has one message under way at a time, and repeats it under its
idempotency key until it is acknowledged. Arguments: URL, a prefix of the humans' ids, seconds,
appends a second.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import httpx

CONVERSATIONS = 4
LEFT_OVER_SECONDS = 120  # for what was said in the last seconds of the trouble
KEY = Path("/run/secrets/mem0/current")


async def converse(client: httpx.AsyncClient, human: str, seconds: float, rate: float) -> None:
    path = f"/agents/appender/humans/{human}"
    started = time.monotonic()
    for number in range(int(seconds * rate)):
        await asyncio.sleep(started + number / rate - time.monotonic())
        body = {"role": "user", "content": f"{human}:{number}"}
        headers = {"Idempotency-Key": f"{human}-{number}"}
        outcomes = []
        while not outcomes or outcomes[-1] not in (200, 201):
            if time.monotonic() > started + seconds + LEFT_OVER_SECONDS:
                break
            try:
                answer = await client.post(f"{path}/recall", json=body, headers=headers)
                outcomes.append(answer.status_code)
            except httpx.TransportError as error:
                outcomes.append(type(error).__name__)
            if outcomes[-1] not in (200, 201):
                await asyncio.sleep(0.1)
        late = time.monotonic() - started - number / rate
        print(json.dumps([human, number, outcomes, round(late, 3)]), flush=True)


async def main(url: str, prefix: str, seconds: float, rate: float, key: str) -> None:
    headers = {"X-API-Key": key}
    limits = httpx.Limits(max_connections=CONVERSATIONS)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=15, limits=limits
    ) as client:
        humans = [f"{prefix}-{number}" for number in range(CONVERSATIONS)]
        await client.put("/agents/appender", json={"name": "A", "persona": ""})
        for human in humans:
            (await client.put(f"/humans/{human}", json={})).raise_for_status()
        each = rate / CONVERSATIONS
        print("begun", flush=True)
        await asyncio.gather(*(converse(client, human, seconds, each) for human in humans))
        for human in humans:
            found = await client.get(f"/agents/appender/humans/{human}/recall?limit=1000")
            print(json.dumps(["stored", human, found.json()["messages"]]), flush=True)


given_url, given_prefix, given_seconds, given_rate = sys.argv[1:]
key = KEY.read_text().strip()
asyncio.run(main(given_url, given_prefix, float(given_seconds), float(given_rate), key))
