"""The read-through cache: what it keeps, what it forgets, and what it never gives away."""

import copy
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from app.rag.cache import GroupedTTLCache, Limits, ReadThrough
from app.rag.frozen import Frozen, copied

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(json_values)
def test_a_copy_is_equal_and_shares_no_container(value):
    def containers(of):
        if isinstance(of, dict | list):
            yield id(of)
            for item in of.values() if isinstance(of, dict) else of:
                yield from containers(item)

    made = copied(value)
    assert made == value == copy.deepcopy(value)
    assert not set(containers(made)) & set(containers(value))


def test_a_second_read_is_a_hit_until_the_ttl_is_over():
    clock = Clock()
    cache = ReadThrough(Limits(10, 60), clock)
    answers = iter([["first"], ["second"]])

    assert cache.read(("a",), (1,), lambda: next(answers)) == ["first"]
    clock.now = 59.9
    assert cache.read(("a",), (1,), lambda: next(answers)) == ["first"]
    clock.now = 60.0
    assert cache.read(("a",), (1,), lambda: next(answers)) == ["second"]
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.loads, stats.size) == (1, 2, 2, 1)


def test_what_a_caller_does_to_an_answer_reaches_nobody_else():
    cache = ReadThrough(Limits(10, 60))

    def read():
        return cache.read(("a",), (), lambda: [{"content": "hello", "tags": ["x"]}])

    for _ in range(3):  # the loader's own answer, then two hits
        answer = read()
        assert answer == [{"content": "hello", "tags": ["x"]}]
        answer[0]["tags"].append("poison")
        answer.append("poison")


def test_a_failure_is_not_kept():
    cache = ReadThrough(Limits(10, 60))

    def load():
        raise RuntimeError("no")

    for _ in range(2):
        with pytest.raises(RuntimeError):
            cache.read(("a",), (), load)
    assert (cache.stats().loads, cache.stats().errors) == (2, 2)
    assert cache.read(("a",), (), lambda: "well") == "well"


def test_an_absence_is_kept_for_its_own_short_time_and_no_longer_than_what_made_it_untrue():
    clock = Clock()
    cache = ReadThrough(Limits(10, 60, absent_ttl=5), clock)
    assert cache.read(("a",), (), lambda: None) is None
    clock.now = 4.9
    assert cache.read(("a",), (), lambda: "too early") is None
    clock.now = 5.0
    assert cache.read(("a",), (), lambda: "came") == "came"
    assert cache.read(("b",), (), lambda: None) is None
    cache.drop(("b",))
    assert cache.read(("b",), (), lambda: "made") == "made"
    clock.now = 64.9
    assert cache.read(("a",), (), lambda: "not asked") == "came"


def test_from_the_end_of_trust_on_entries_are_gone_past_and_served_again_when_it_is_back():
    clock = Clock()
    cache = ReadThrough(Limits(10, 60), clock)
    cache.trusted_until = 2.0
    assert cache.read(("a",), (), lambda: 1) == 1
    clock.now = 1.9
    assert cache.read(("a",), (), lambda: 2) == 1
    clock.now = 2.0
    assert cache.read(("a",), (), lambda: 3) == 3
    assert cache.read(("a",), (), lambda: 4) == 4
    assert cache.stats().bypassed == 2
    cache.trusted_until = 9.0
    assert cache.read(("a",), (), lambda: 5) == 4


def test_other_limits_are_kept_to_from_then_on_and_the_counters_stay():
    clock = Clock()
    cache = ReadThrough(Limits(1, 60), clock)
    for name in "ab":
        cache.read((name,), (), lambda: 1)
    cache.tune(Limits(1, 60))
    assert cache.stats().size == 1
    cache.tune(Limits(2, 10))
    assert (cache.store.maxsize, cache.store.ttl, cache.stats().size) == (2, 10, 0)
    for name in "ab":
        cache.read((name,), (), lambda: 2)
    clock.now = 9.9
    assert [cache.read((name,), (), lambda: 3) for name in "ab"] == [2, 2]
    clock.now = 10.0
    assert cache.read(("a",), (), lambda: 4) == 4
    assert (cache.stats().evictions, cache.stats().hits) == (1, 2)


def test_a_load_under_way_when_limits_change_is_not_kept():
    cache = ReadThrough(Limits(10, 60))
    load = Loading(cache, "before")
    with ThreadPoolExecutor() as pool:
        early = pool.submit(load.read)
        assert load.begun.wait(10)
        cache.tune(Limits(10, 30))
        load.released.set()
        assert early.result(10) == "before"
    assert cache.stats().size == 0


@given(json_values)
def test_a_view_says_the_same_and_takes_no_change(value):
    frozen = Frozen(value)
    assert plain(frozen.view) == value == frozen.copy()
    if isinstance(value, dict):
        with pytest.raises(TypeError):
            frozen.view["x"] = 1
    elif isinstance(value, list):
        with pytest.raises(TypeError):
            frozen.view[0] = 1


def plain(view):
    if isinstance(view, Mapping):
        return {key: plain(item) for key, item in view.items()}
    return [plain(item) for item in view] if isinstance(view, tuple) else view


def test_many_views_are_one_object():
    cache = ReadThrough(Limits(10, 60))
    first, second = (cache.frozen((("a",), ()), lambda: [{"n": 1}]) for _ in range(2))
    assert first.view is second.view
    assert cache.frozen((("none",), ()), lambda: None).view is None


def test_dropping_a_group_takes_every_entry_of_it_and_none_of_its_neighbours():
    cache = ReadThrough(Limits(100, 60))
    groups = [("m", "user1"), ("m", "user10"), ("m", "user"), ("m", "user1/x"), ("m", "user1", "x")]
    for group in groups:
        for limit in (1, 10):
            cache.read(group, (limit,), lambda: "old")

    cache.drop(("m", "user1"))

    for group in groups:
        expected = "new" if group == ("m", "user1") else "old"
        assert [cache.read(group, (limit,), lambda: "new") for limit in (1, 10)] == [expected] * 2


def test_a_full_cache_evicts_the_least_recently_used_and_counts_it():
    cache = ReadThrough(Limits(2, 60))
    for name in ("a", "b", "a", "c"):
        cache.read((name,), (), lambda: name)  # noqa: B023 - called at once
    assert {group for group, _ in cache.store} == {("a",), ("c",)}
    assert cache.stats().evictions == 1
    cache.clear()
    assert (cache.stats().evictions, cache.stats().size) == (1, 0)


class Loading:
    """A load that waits, so that something can happen while it is under way."""

    def __init__(self, cache: ReadThrough, answer, group=("a",)) -> None:
        self.begun, self.released = threading.Event(), threading.Event()
        self.calls = 0
        self._cache, self._answer, self._group = cache, answer, group

    def __call__(self):
        self.calls += 1
        self.begun.set()
        assert self.released.wait(10)
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer

    def read(self):
        return self._cache.read(self._group, (), self)


def wait_for_misses(cache: ReadThrough, count: int) -> None:
    deadline = time.monotonic() + 10
    while cache.stats().misses < count:
        assert time.monotonic() < deadline, "the readers never came"
        time.sleep(0.001)


@pytest.mark.parametrize("forget", [lambda c: c.drop(("a",)), lambda c: c.clear()])
def test_a_load_that_began_before_an_invalidation_is_not_kept(forget):
    cache = ReadThrough(Limits(10, 60))
    load = Loading(cache, "stale")
    with ThreadPoolExecutor() as pool:
        early = pool.submit(load.read)
        assert load.begun.wait(10)
        forget(cache)
        # Who asks after the write must not be handed the load from before it.
        assert cache.read(("a",), (), lambda: "fresh") == "fresh"
        load.released.set()
        assert early.result(10) == "stale"
    assert cache.read(("a",), (), lambda: "never asked") == "fresh"


def test_an_invalidation_of_another_group_leaves_a_load_alone():
    cache = ReadThrough(Limits(10, 60))
    load = Loading(cache, "kept")
    with ThreadPoolExecutor() as pool:
        reader = pool.submit(load.read)
        assert load.begun.wait(10)
        cache.drop(("b",))
        load.released.set()
        assert reader.result(10) == "kept"
    assert cache.read(("a",), (), lambda: "never asked") == "kept"


def test_many_misses_of_one_key_make_one_load_and_everyone_gets_a_copy():
    cache = ReadThrough(Limits(10, 60))
    load = Loading(cache, [{"n": 1}])
    with ThreadPoolExecutor(32) as pool:
        readers = [pool.submit(load.read) for _ in range(32)]
        wait_for_misses(cache, 32)
        load.released.set()
        answers = [reader.result(10) for reader in readers]
    assert load.calls == 1
    assert answers == [[{"n": 1}]] * 32
    assert len({id(answer[0]) for answer in answers}) == 32


def test_a_failed_load_fails_for_all_who_wait_and_for_nobody_after():
    cache = ReadThrough(Limits(10, 60))
    load = Loading(cache, RuntimeError("no"))
    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(load.read) for _ in range(4)]
        wait_for_misses(cache, 4)
        load.released.set()
        assert all(isinstance(reader.exception(10), RuntimeError) for reader in readers)
    assert cache.read(("a",), (), lambda: "well") == "well"


def test_a_reader_who_is_interrupted_while_loading_does_not_take_the_others_along():
    cache = ReadThrough(Limits(10, 60))
    interrupted = Loading(cache, KeyboardInterrupt())
    with ThreadPoolExecutor() as pool:
        first = pool.submit(interrupted.read)
        assert interrupted.begun.wait(10)
        second = pool.submit(cache.read, ("a",), (), lambda: "well")
        wait_for_misses(cache, 2)
        interrupted.released.set()
        assert isinstance(first.exception(10), KeyboardInterrupt)
        assert second.result(10) == "well"


NAMES = st.sampled_from(["user", "user1", "user10"])
LIMITS = st.sampled_from([1, 10])


class AgainstTheTruth(RuleBasedStateMachine):
    """Any order of reads, writes, time and pressure: never an answer older than the last write."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.cache = ReadThrough(Limits(3, 60), self.clock)
        self.truth: dict[str, int] = {}

    @rule(name=NAMES, limit=LIMITS)
    def read(self, name, limit):
        expected = {"of": [self.truth.get(name, 0)]}
        answer = self.cache.read(("g", name), (limit,), lambda: copy.deepcopy(expected))
        assert answer == expected
        answer["of"].append("poison")

    @rule(name=NAMES)
    def write(self, name):
        self.truth[name] = self.truth.get(name, 0) + 1
        self.cache.drop(("g", name))

    @rule(name=NAMES, limit=LIMITS)
    def write_while_a_read_is_under_way(self, name, limit):
        def load():
            before = {"of": [self.truth.get(name, 0)]}
            self.write(name)
            return before

        self.cache.read(("g", name), (limit,), load)

    @rule(seconds=st.floats(0, 70))
    def wait(self, seconds):
        self.clock.now += seconds

    @precondition(lambda self: len(self.cache.store))
    @rule()
    def clear(self):
        self.cache.clear()
        assert not len(self.cache.store)

    @invariant()
    def the_index_names_what_is_stored_and_nothing_else(self):
        store = self.cache.store
        store.expire()
        assert len(store) <= 3
        assert set(store) == {key for keys in store._groups.values() for key in keys}
        assert set(store) == set(store._used)
        assert all(store._groups.values())


TestAgainstTheTruth = AgainstTheTruth.TestCase
TestAgainstTheTruth.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_the_store_is_a_ttl_cache_that_can_be_looked_into():
    store = GroupedTTLCache(3, 60)
    store[("g",), ()] = 1
    assert (store.maxsize, store.ttl, len(store), (("g",), ()) in store) == (3, 60, 1, True)
