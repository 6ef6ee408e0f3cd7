"""Any order of writes and reads on two replicas, while Mem0 dies, keys change and listeners fall.

The model is plain: what was acknowledged, in order. A replica sees its own writes at once and the
other's within ``SOON``; a read that fails is empty, never old. Two planted bugs show that the run
notices when this is not so.
"""

import signal
import threading
import time
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from app.rag.cache import ReadThrough
from app.rag.coherence import Coherence
from app.rag.mem0_client import METIS_AGENT_ID

SOON = 5.0
"""Seconds; generous, for slow machines: how long it takes is test_replicas' to say."""
MANY_SECONDS = 300.0
"""How long the long run goes on beginning new examples."""
REPLICAS = st.integers(0, 1)
HUMANS = st.sampled_from(["ann", "ann0", "ben"])
LIMITS = st.sampled_from([1, 3, 50])


class Replica:
    """A client with its caches, its mounted keys and its listener."""

    def __init__(self, memory_at, mem0, directory, dsn):
        self.keys = directory
        directory.mkdir()
        self.mount(mem0.key)
        memory = memory_at(mem0, mem0_api_key=None, mem0_api_key_dir=directory)
        self.client = memory.EnhancedMem0Client(endpoint=mem0.url)
        self._dsn = dsn
        self.coherence = Coherence(self, self.client.caches)
        self.coherence.start()

    def connect(self):
        self.connection = psycopg.connect(self._dsn, autocommit=True)
        return self.connection

    def changed(self):
        return False

    def mount(self, current, previous=None):
        for name, key in (("current", current), ("previous", previous)):
            if key is None:
                (self.keys / name).unlink(missing_ok=True)
            else:
                staged = self.keys / f".{name}"
                staged.write_text(key)
                staged.replace(self.keys / name)


class World:
    """A Mem0 and two replicas; they outlive the examples."""

    def __init__(self, mem0, replicas, dsn, eventually, make_key):
        self.mem0, self.replicas, self.dsn = mem0, replicas, dsn
        self.eventually, self.make_key = eventually, make_key
        self.up = True
        self.soon = SOON
        self.steps = 0
        client = replicas[0].client
        assert client.create_agent(METIS_AGENT_ID, "Metis", "Somebody.")

    def start_mem0(self):
        if not self.up:
            self.mem0.start()
            self.up = True
            for one in self.replicas:
                self.eventually(lambda one=one: not one.client.client.breaker.is_open)

    def kill_mem0(self):
        self.mem0.stop(signal.SIGKILL)
        self.up = False


class Interleavings(RuleBasedStateMachine):
    def __init__(self, world, kills):
        super().__init__()
        self.world = world
        self.kills = kills
        self.run = uuid4().hex
        self.said = {}  # human: what was acknowledged, in order
        self.preferred = {}  # human: the last acknowledged preferences
        self.refused = []  # (human, key, text) of messages that were not, oldest first
        self.keys = {}  # text: the key that it was acknowledged under
        self.rotation = None
        for human in ("ann", "ann0", "ben"):
            assert self.client(0).create_human(self.id(human), human)

    def teardown(self):
        self.world.start_mem0()
        while self.refused:
            self.send_what_was_refused(0)
        for human in self.said:
            for replica in (0, 1):
                self.client(replica).clear_cache()
                self.read(replica, human, 50)
        while self.rotation is not None:
            self.rotate()

    def id(self, human):
        return f"{self.run}-{human}"

    def client(self, replica):
        return self.world.replicas[replica].client

    def append(self, replica, human, key, text):
        message = {"role": "user", "content": text}
        done = self.client(replica).append_message(METIS_AGENT_ID, self.id(human), message, key)
        assert done or not self.world.up, "refused though all is well"
        return done

    @rule(replica=REPLICAS, human=HUMANS)
    def say(self, replica, human):
        text, key = f"{len(self.keys) + len(self.refused)} {uuid4()}", str(uuid4())
        waits = any(who == human for who, _, _ in self.refused)
        if not waits and self.append(replica, human, key, text):
            self.said.setdefault(human, []).append(text)
            self.keys[text] = key
            self.read(replica, human, 1)  # one's own write, at once
        else:
            self.refused.append((human, key, text))

    @precondition(lambda self: self.refused)
    @rule(replica=REPLICAS)
    def send_what_was_refused(self, replica):
        human, key, text = self.refused[0]
        if self.append(replica, human, key, text):
            del self.refused[0]
            self.said.setdefault(human, []).append(text)
            self.keys[text] = key

    @precondition(lambda self: self.keys)
    @rule(replica=REPLICAS, data=st.data())
    def send_again_what_was_acknowledged(self, replica, data):
        human = data.draw(st.sampled_from(sorted(self.said)))
        text = data.draw(st.sampled_from(self.said[human]))
        self.append(replica, human, self.keys[text], text)

    @rule(replica=REPLICAS, human=HUMANS, limit=LIMITS)
    def read(self, replica, human, limit):
        whole = self.said.get(human, [])
        expected = whole[-limit:]

        def heard():
            found = self.client(replica).get_recall_memory(METIS_AGENT_ID, self.id(human), limit)
            texts = [message["content"] for message in found]
            assert texts == [t for t in whole if t in set(texts)], "out of order, or not ours"
            return texts == expected or (texts == [] and not self.world.up)

        self.world.steps += 1
        self.world.eventually(heard, self.world.soon)

    @precondition(lambda self: self.world.up)
    @rule(replica=REPLICAS, writer=REPLICAS, human=HUMANS, limit=LIMITS)
    def read_what_is_written_meanwhile(self, replica, writer, human, limit):
        """A read gets its answer from Mem0, then somebody writes, then the answer is taken in."""
        plain = self.client(replica).client
        answered, written = threading.Event(), threading.Event()

        def load(**wanted):
            del plain.get_recall_memory  # for this load only; the next one is the usual method
            found = plain.get_recall_memory(**wanted)
            answered.set()
            assert written.wait(30)
            return found

        self.client(replica).clear_cache("recall")
        plain.get_recall_memory = load
        asked = (METIS_AGENT_ID, self.id(human), limit)
        reader = threading.Thread(target=self.client(replica).get_recall_memory, args=asked)
        reader.start()
        assert answered.wait(30)
        text, key = f"{len(self.keys) + len(self.refused)} {uuid4()}", str(uuid4())
        done = self.append(writer, human, key, text)
        written.set()
        reader.join(30)
        assert done
        self.said.setdefault(human, []).append(text)
        self.keys[text] = key
        self.read(replica, human, limit)

    @rule(replica=REPLICAS, human=HUMANS, number=st.integers())
    def prefer(self, replica, human, number):
        data = {"number": number}
        done = self.client(replica).create_archival_memory(
            METIS_AGENT_ID, self.id(human), data, "preferences", replace=True
        )
        assert done == self.world.up
        if done:
            self.preferred[human] = data
            assert self.preferences(replica, human) == [data]

    @rule(replica=REPLICAS, human=HUMANS)
    def read_preferences(self, replica, human):
        expected = [self.preferred[human]] if human in self.preferred else []
        self.world.eventually(
            lambda: (
                self.preferences(replica, human) == expected
                or (not self.world.up and self.preferences(replica, human) == [])
            ),
            self.world.soon,
        )

    def preferences(self, replica, human):
        found = self.client(replica).get_archival_memory(
            METIS_AGENT_ID, self.id(human), "preferences", 10
        )
        return [record["data"] for record in found]

    @rule(replica=REPLICAS)
    def clear(self, replica):
        self.client(replica).clear_cache()

    @rule(replica=REPLICAS)
    def lose_the_listener(self, replica):
        pid = self.world.replicas[replica].connection.info.backend_pid
        with psycopg.connect(self.world.dsn, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", (pid,))

    @precondition(lambda self: self.world.up and self.kills)
    @rule()
    def kill_mem0(self):
        self.kills -= 1
        self.world.kill_mem0()

    @precondition(lambda self: not self.world.up)
    @rule()
    def start_mem0(self):
        self.world.start_mem0()

    @precondition(lambda self: self.world.up)
    @rule()
    def rotate(self):
        """One step of a rotation: server, either replica, the other, and the old key is gone."""
        mem0, replicas = self.world.mem0, self.world.replicas
        if self.rotation is None:
            old, new = mem0.key, self.world.make_key()
            (mem0.keys / "previous").write_text(old)
            (mem0.keys / "current").write_text(new)
            self.world.eventually(lambda: mem0.accepts(new, old))
            self.rotation = [(replicas[1], new, old), (replicas[0], new, old)]
        elif self.rotation:
            replica, new, old = self.rotation.pop()
            replica.mount(new, old)
        else:
            (mem0.keys / "previous").unlink()
            self.world.eventually(lambda: mem0.accepts(mem0.key))
            for replica in replicas:
                replica.mount(mem0.key)
            self.rotation = None


@pytest.fixture
def world(own_mem0, memory_at, postgres_dsn_factory, tmp_path, eventually, make_key):
    dsn = postgres_dsn_factory("interleavings")
    replicas = [Replica(memory_at, own_mem0, tmp_path / name, dsn) for name in ("a", "b")]
    for one in replicas:
        eventually(lambda one=one: one.client.caches["recall"].trusted_until > time.monotonic())
    yield World(own_mem0, replicas, dsn, eventually, make_key)
    for one in replicas:
        one.coherence.stop()
        one.client.client.close()


def run(world, examples, steps, kills, **more):
    run_state_machine_as_test(
        lambda: Interleavings(world, kills),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
            **more,
        ),
    )


def test_no_order_of_events_on_two_replicas_shows_what_is_old_or_loses_or_doubles_a_message(world):
    run(world, 4, 25, kills=1, derandomize=True, phases=[Phase.generate])


@pytest.mark.full
@pytest.mark.timeout(1500)
def test_nor_do_a_great_many(world):
    ends = time.monotonic() + MANY_SECONDS
    while time.monotonic() < ends:
        run(world, 3, 50, kills=1, phases=[Phase.generate], database=None)
    assert world.steps > 200, "so few reads prove nothing"


def tell_nobody(replicas, patch):
    """A write is not told to the other replica."""
    for one in replicas:
        patch.setattr(one.client.caches, "tell", lambda what: None)


def keep_what_was_under_way(_, patch):
    """A load that began before a write is kept after it."""

    def drop(self, group):
        with self._lock:
            self.store.drop(group)

    patch.setattr(ReadThrough, "drop", drop)


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("plant", [tell_nobody, keep_what_was_under_way])
def test_a_planted_bug_is_noticed(world, monkeypatch, plant):
    plant(world.replicas, monkeypatch)
    world.soon = 1.0
    with pytest.raises((AssertionError, Flaky)) as noticed:
        run(world, 20, 25, kills=0, phases=[Phase.generate], database=None)
    assert isinstance(noticed.value, Flaky) or "not so within" in str(noticed.value)
