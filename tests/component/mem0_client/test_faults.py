"""The key changes and the server dies while the client is in use."""

import itertools
import signal
import threading
import time

import pytest


def history(memory, limit=1000):
    memory.get_mem0_client().clear_cache()
    return [m["content"] for m in memory.get_conversation_history("ann", limit)]


class Talker(threading.Thread):
    """Stores numbered messages one after the other and notes which were acknowledged."""

    def __init__(self, memory) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[str] = []
        self.refused: list[str] = []
        self.over = threading.Event()
        self._memory = memory

    def run(self) -> None:
        for number in itertools.count():
            if self.over.is_set():
                return
            stored = self._memory.store_message("ann", "user", str(number))
            (self.acknowledged if stored else self.refused).append(str(number))
            time.sleep(0.002)

    def __enter__(self) -> "Talker":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join(30)

    def said_more(self):
        """A condition: something was acknowledged since now."""
        before = len(self.acknowledged)
        return lambda: len(self.acknowledged) > before + 3


@pytest.mark.parametrize("first", ["server", "client"])
def test_a_key_rotation_under_use_goes_unnoticed(
    first, own_mem0, memory_at, make_key, eventually, tmp_path
):
    mounted = tmp_path / "client-keys"
    mounted.mkdir()
    old, new = own_mem0.key, make_key()

    def mount(**keys):
        # Never without the key in use: a Secret's mount changes as a whole, this one by the file.
        for name in ("previous", "current"):
            staged = mounted / f".{name}"
            if name in keys:
                staged.write_text(keys[name])
                staged.replace(mounted / name)
            else:
                (mounted / name).unlink(missing_ok=True)

    def tell_server():
        (own_mem0.keys / "previous").write_text(old)
        (own_mem0.keys / "current").write_text(new)
        eventually(lambda: own_mem0.accepts(new, old))

    def tell_client():
        mount(current=new, previous=old)

    mount(current=old)
    memory = memory_at(own_mem0, mem0_api_key=None, mem0_api_key_dir=mounted)
    client = memory.get_mem0_client()
    with Talker(memory) as talker:
        eventually(talker.said_more())
        for tell in (tell_server, tell_client)[:: 1 if first == "server" else -1]:
            tell()
            eventually(talker.said_more())
        (own_mem0.keys / "previous").unlink()
        eventually(lambda: own_mem0.accepts(new))
        eventually(talker.said_more())
        mount(current=new)
        eventually(talker.said_more())
    assert talker.refused == []
    assert history(memory) == talker.acknowledged[-1000:]
    assert client.client.recognises(new)
    assert not client.client.recognises(old)
    assert own_mem0.get("/status", old).status_code == 401


def test_a_killed_server_costs_no_time_and_what_was_acknowledged_is_there_when_it_is_back(
    own_mem0, memory_at, eventually
):
    memory = memory_at(own_mem0)
    with Talker(memory) as talker:
        eventually(talker.said_more())
        own_mem0.stop(signal.SIGKILL)
        eventually(lambda: len(talker.refused) > 20)
        assert memory.memory_status() == "degraded"

        memory.get_mem0_client().clear_cache()
        started = time.perf_counter()
        for _ in range(50):
            assert memory.get_conversation_history("ann") == []
            assert memory.get_user_preferences("ann") == {}
            assert memory.store_document_interaction("ann", "d", "view", {}) is False
        assert time.perf_counter() - started < 1.0

        own_mem0.start()
        eventually(talker.said_more())
    assert memory.memory_status() == "ok"
    said = history(memory)
    assert [text for text in said if text in set(talker.acknowledged)] == talker.acknowledged
    assert len(said) == len(set(said))


def test_a_client_made_while_mem0_is_away_finds_its_agent_made_when_it_is_back(
    own_mem0, memory_at, eventually
):
    own_mem0.stop()
    memory = memory_at(own_mem0)
    assert memory.get_mem0_client() is not None
    assert memory.store_message("ann", "user", "lost") is False
    own_mem0.start()
    eventually(lambda: memory.store_message("ann", "user", "kept"))
    assert history(memory) == ["kept"]


def test_a_wrong_key_is_degraded_and_says_which_key(memory_at, mem0, make_key):
    memory = memory_at(mem0, mem0_api_key=make_key())
    assert memory.store_message("ann", "user", "hello") is False
    assert memory.memory_status() == "degraded"
