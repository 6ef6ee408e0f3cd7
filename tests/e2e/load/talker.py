"""Talks to the app in several conversations at a steady rate, from a pod; prints what came of it.

A message that fails is not said again: what was not acknowledged may be there or not. Each line is
``[conversation, number, HTTP status or error, sent at, seconds]``. Arguments: URL, a file with the
bearer key, a word that all messages begin with, seconds, messages a second.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import httpx

CONVERSATIONS = 10


async def say(client, conversation, text):
    sent = time.time()
    body = {"message": text} | ({"conversation_id": conversation} if conversation else {})
    try:
        answer = await client.post("/api/chat/query", json=body)
    except httpx.TransportError as error:
        return None, [type(error).__name__, sent, time.time() - sent]
    found = answer.json() if answer.is_success else {}
    return found.get("conversation_id"), [answer.status_code, sent, time.time() - sent]


async def converse(client, word, first, seconds, rate):
    conversation = None
    while conversation is None:
        conversation, _ = await say(client, None, f"{word} begins {first}")
    print(json.dumps([conversation, -1, 200, time.time(), 0]), flush=True)
    started = time.monotonic()
    for number in range(int(seconds * rate)):
        await asyncio.sleep(started + number / rate - time.monotonic())
        _, outcome = await say(client, conversation, f"{word} talk {first}/{number}")
        print(json.dumps([conversation, number, *outcome]), flush=True)


async def main(url, key, word, seconds, rate):
    headers = {"Authorization": f"Bearer {key}"}
    # A connection a message, so that the Service chooses among the replicas.
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=20, limits=limits
    ) as client:
        each = rate / CONVERSATIONS
        await asyncio.gather(
            *(converse(client, word, n, seconds, each) for n in range(CONVERSATIONS))
        )


if __name__ == "__main__":
    url, key, word, seconds, rate = sys.argv[1:]
    asyncio.run(main(url, Path(key).read_text().strip(), word, float(seconds), float(rate)))
