"""Three processes that write and hear of each other's writes, with a real Mem0 and PostgreSQL."""

import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path

import pytest

NAMES = ("a", "b", "c")
SCRIPT = Path(__file__).with_name("replica.py")
ROOT = Path(__file__).parents[3]


class Replica:
    def __init__(self, name, count, pause, human, environment):
        others = ",".join(other for other in NAMES if other != name)
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), name, others, str(count), str(pause), human],
            env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.said = []
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            if line.startswith("{"):
                self._lines.put(json.loads(line))
        self._lines.put(None)

    def until(self, holds, seconds=120):
        while not holds():
            said = self._lines.get(timeout=seconds)
            assert said is not None, f"it ended with {self.process.wait(10)}"
            self.said.append(said)

    def times(self, verb):
        return {one[verb]: one["at"] for one in self.said if one.get(verb)}

    def tell(self, word):
        self.process.stdin.write(word)
        self.process.stdin.flush()


@pytest.fixture
def delays(mem0, memory_at, human, postgres_dsn_factory):
    """``delays(count, pause)``: seconds from each acknowledged write to each other replica."""
    started = []
    assert memory_at(mem0).get_or_create_human(human)
    environment = {
        "USE_MEM0": "true",
        "MEM0_ENDPOINT": mem0.url,
        "MEM0_API_KEY": mem0.key,
        "DATABASE_URL": postgres_dsn_factory("replicas"),
    }

    def measure(count, pause):
        started.extend(Replica(name, count, pause, human, environment) for name in NAMES)
        for one in started:
            one.until(lambda one=one: one.times("ready"))
        for one in started:
            one.tell("go\n")
        written = {}
        for one in started:
            one.until(lambda one=one: len(one.times("wrote")) == count)
            written |= one.times("wrote")
        assert len(written) == len(NAMES) * count
        for one in started:
            one.until(lambda one=one: set(written) == set(one.times("heard")))
            one.process.stdin.close()
            one.until(lambda one=one: one.times("seen"))
            assert one.process.wait(30) == 0
        return sorted(
            max(0.0, one.times("heard")[what] - at)
            for one in started
            for what, at in written.items()
            if what not in one.times("wrote")
        )

    yield measure
    for one in started:
        one.process.kill()
        one.process.wait()


def test_a_write_is_seen_by_the_other_replicas_soon(delays):
    waited = delays(count=8, pause=0.05)
    assert len(waited) == 2 * 3 * 8
    assert waited[len(waited) // 2] < 0.3


@pytest.mark.full
def test_nearly_all_writes_are_seen_by_the_other_replicas_within_100_ms(delays):
    waited = delays(count=100, pause=0.03)
    assert waited[int(len(waited) * 0.99)] < 0.1
