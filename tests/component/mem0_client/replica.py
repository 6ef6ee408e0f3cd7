"""One replica's memory client as a process; the tests start several. It tells what it does.

Standard input: ``go``, then the end. Standard output: one JSON object a line, with times of the
monotonic clock, which all processes of a machine share.
"""

import asyncio
import json
import os
import sys
import time

from app.core.config import SETTINGS
from app.core.logging import configure
from app.rag import mem0_client
from app.rag.mem0_client import METIS_AGENT_ID
from app.rag.mem0_upkeep import upkeep


def say(**what):
    line = json.dumps({**what, "at": time.monotonic()}) + "\n"
    os.write(1, line.encode())  # whole, whichever thread says it


def kind(replica, number):
    return f"note-{replica}-{number}"


def wait_for_trust(cache):
    while cache.trusted_until < time.monotonic():
        time.sleep(0.01)


async def main(name, others, count, pause, human):
    async with upkeep(SETTINGS):
        client = mem0_client.get_mem0_client()
        forget = client.caches.forget

        def told(what):
            forget(what)
            if what.cache == "archival" and what.group:
                say(heard=what.group[2])

        client.caches.forget = told
        await asyncio.to_thread(wait_for_trust, client.caches["archival"])
        for other in others:
            for number in range(count):
                client.get_archival_memory(METIS_AGENT_ID, human, kind(other, number))
        say(ready=name)
        assert (await asyncio.to_thread(sys.stdin.readline)).strip() == "go"
        for number in range(count):
            mine = kind(name, number)
            assert await asyncio.to_thread(
                client.create_archival_memory, METIS_AGENT_ID, human, {"n": number}, mine
            )
            say(wrote=mine)
            await asyncio.sleep(pause)
        await asyncio.to_thread(sys.stdin.read)
        for other in others:
            for number in range(count):
                seen = client.get_archival_memory(METIS_AGENT_ID, human, kind(other, number))
                assert [record["data"] for record in seen] == [{"n": number}]
        say(seen=True)


if __name__ == "__main__":
    configure("warning")
    me, rest, writes, seconds, user = sys.argv[1:]
    asyncio.run(main(me, rest.split(","), int(writes), float(seconds), user))
