"""Caches of several replicas and the notifications between them: a real PostgreSQL."""

import os
import signal
import threading
import time
from contextlib import contextmanager
from uuid import uuid4

import psycopg
import pytest

from app.core.config import load_settings
from app.rag.coherence import Coherence, Login
from app.rag.mem0_caches import DEFAULTS, Invalidation, MemoryCaches

GROUP = ("metis_rag_agent", "ann")


class Replica:
    """A replica's caches, and what it hears with; ``told`` is everything it was told to forget."""

    def __init__(self, dsn, heartbeat):
        self.caches = MemoryCaches(DEFAULTS)
        self.reachable = True
        self.told = []
        self._dsn = dsn
        self.coherence = Coherence(self, self.caches, heartbeat)
        forget = self.caches.forget

        def noted(what):
            self.told.append(what)
            forget(what)

        self.caches.forget = noted

    def changed(self):
        return False

    def connect(self):
        if not self.reachable:
            raise psycopg.OperationalError("no route to the database")
        self.connection = psycopg.connect(self._dsn, autocommit=True)
        return self.connection

    def read(self, upstream, group=GROUP):
        return self.caches["recall"].read(group, (10,), lambda: upstream)

    @property
    def trusting(self):
        return self.caches["recall"].trusted_until > time.monotonic()


@pytest.fixture(scope="module")
def dsn(postgres_dsn_factory):
    return postgres_dsn_factory("coherence")


@pytest.fixture
def replicas(dsn, eventually):
    """``with replicas(3) as (a, b, c)``: replicas that hear each other."""

    @contextmanager
    def start(count, heartbeat=2.0):
        made = [Replica(dsn, heartbeat) for _ in range(count)]
        for one in made:
            one.coherence.start()
        try:
            eventually(lambda: all(one.trusting for one in made))
            yield made
        finally:
            for one in made:
                one.coherence.stop()

    return start


def backend(replica):
    return replica.connection.info.backend_pid


def test_a_write_is_seen_here_at_once_and_elsewhere_soon_and_spares_the_neighbours(
    replicas, eventually
):
    with replicas(3) as (a, b, c):
        neighbour = ("metis_rag_agent", "anna")
        for one in (a, b, c):
            assert one.read(["old"]) == ["old"]
            one.read(["kept"], neighbour)
        a.caches.drop("recall", GROUP)
        assert a.read(["new"]) == ["new"]
        for one in (b, c):
            eventually(lambda one=one: one.read(["new"]) == ["new"])
            assert one.read(["not asked"], neighbour) == ["kept"]
        assert a.read(["not asked"]) == ["new"], "its own word came back and cost it an entry"


@pytest.mark.parametrize("cache", ["recall", None])
def test_clearing_clears_everywhere(replicas, eventually, cache):
    with replicas(2) as (a, b):
        for one in (a, b):
            one.read(["old"])
        a.caches.clear(cache)
        assert a.read(["new"]) == ["new"]
        eventually(lambda: b.read(["new"]) == ["new"])


def test_a_load_that_began_before_a_write_elsewhere_is_not_kept(replicas, eventually):
    with replicas(2) as (a, b):
        begun, go_on = threading.Event(), threading.Event()

        def slow():
            begun.set()
            assert go_on.wait(10)
            return ["old"]

        reader = threading.Thread(target=b.caches["recall"].read, args=(GROUP, (10,), slow))
        reader.start()
        assert begun.wait(10)
        a.caches.drop("recall", GROUP)
        eventually(lambda: Invalidation("recall", GROUP) in b.told)
        go_on.set()
        reader.join(10)
        assert b.read(["new"]) == ["new"]


def test_a_broken_connection_is_noticed_at_once_and_what_was_missed_is_not_served_afterwards(
    replicas, eventually, dsn
):
    with replicas(2) as (a, b):
        b.read(["old"])
        b.reachable = False
        with psycopg.connect(dsn, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", (backend(b),))
        eventually(lambda: not b.trusting)
        a.caches.drop("recall", GROUP)  # b misses this
        assert b.read(["new"]) == ["new"], "past the entry while nothing is heard"
        assert b.read(["newer"]) == ["newer"]
        b.reachable = True
        eventually(lambda: b.trusting)
        assert b.read(["newest"]) == ["newest"]
        assert b.read(["not asked"]) == ["newest"]


def test_what_could_not_be_told_is_told_when_the_connection_is_back(replicas, eventually, dsn):
    with replicas(2) as (a, b):
        b.read(["old"])
        a.reachable = False
        with psycopg.connect(dsn, autocommit=True) as admin:
            admin.execute("SELECT pg_terminate_backend(%s)", (backend(a),))
        eventually(lambda: not a.trusting)
        a.caches.drop("recall", GROUP)
        assert b.read(["new"]) == ["old"], "nobody can know yet"
        a.reachable = True
        eventually(lambda: b.read(["new"]) == ["new"])


def test_a_connection_that_falls_silent_is_noticed_within_the_heartbeat_and_nothing_is_missed(
    replicas, eventually
):
    heartbeat = 0.6
    with replicas(2, heartbeat) as (a, b):
        b.read(["old"])
        os.kill(backend(b), signal.SIGSTOP)
        try:
            stopped = time.monotonic()
            a.caches.drop("recall", GROUP)
            eventually(lambda: not b.trusting)
            assert b.read(["new"]) == ["new"]
            assert b.caches["recall"].trusted_until <= stopped + heartbeat
        finally:
            os.kill(backend(b), signal.SIGCONT)
        eventually(lambda: b.trusting)
        assert Invalidation("recall", GROUP) in b.told


@pytest.mark.parametrize("name", ["n" * 9_000, "🙂" * 900, 'q"uo\\te\n', "\u0000", "a\ud800b"])
def test_any_id_can_be_told_and_one_too_long_costs_its_whole_cache(replicas, eventually, name):
    with replicas(2) as (a, b):
        group = ("metis_rag_agent", name)
        b.read(["old"], group)
        b.caches["archival"].read(GROUP, (), lambda: ["kept"])
        a.caches.drop("recall", group)
        eventually(lambda: b.read(["new"], group) == ["new"])
        assert b.caches["archival"].read(GROUP, (), lambda: ["not asked"]) == ["kept"]


def test_a_new_login_is_used_within_a_heartbeat_and_costs_no_write(dsn, eventually, tmp_path):
    name, password = f"login_{uuid4().hex[:8]}", tmp_path / "password"
    with psycopg.connect(dsn, autocommit=True) as admin:
        owner = admin.info.user
        admin.execute(f"CREATE ROLE {name} LOGIN")
    user = tmp_path / "user"
    user.write_text(owner)
    password.write_text("unused")
    settings = load_settings(
        database_url=dsn, database_user_file=user, database_password_file=password
    )
    caches, other = MemoryCaches(DEFAULTS), Replica(dsn, 2.0)
    coherence = Coherence(Login(settings), caches)

    def users():
        with psycopg.connect(dsn) as asked:
            rows = asked.execute(
                "SELECT usename FROM pg_stat_activity WHERE application_name = %s "
                "AND datname = current_database()",
                ("metis-app-coherence",),
            )
            return [row[0] for row in rows]

    coherence.start()
    other.coherence.start()
    try:
        eventually(lambda: users() == [owner])
        user.write_text(name)
        eventually(lambda: users() == [name])
        eventually(lambda: caches["recall"].trusted_until > time.monotonic())
        caches.drop("recall", GROUP)
        eventually(lambda: Invalidation("recall", GROUP) in other.told)
    finally:
        coherence.stop()
        other.coherence.stop()


def test_many_writes_at_once_are_all_told(replicas, eventually):
    with replicas(2) as (a, b):
        groups = [("metis_rag_agent", f"human-{n}") for n in range(3_000)]
        for group in groups:
            a.caches.drop("recall", group)
        eventually(lambda: {i.group for i in b.told if i.group} == set(groups))


def test_more_than_can_be_remembered_is_told_as_everything(dsn, eventually, monkeypatch):
    monkeypatch.setattr("app.rag.coherence.UNTOLD_LIMIT", 10)
    silent = Replica(dsn, 2.0).coherence
    for n in range(11):
        silent.tell(Invalidation("recall", (str(n),)))
    assert Invalidation() in silent._untold
    assert len(silent._untold) <= 10
