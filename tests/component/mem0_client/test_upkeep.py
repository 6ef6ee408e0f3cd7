"""What the app keeps in shape while it runs: limits as set, coherent caches, figures."""

import json

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.core.config import load_settings
from app.rag.mem0_upkeep import upkeep


@pytest.fixture
def running(memory_at, mem0, postgres_dsn_factory, tmp_path, monkeypatch):
    """The client as the app runs it, and its configuration file."""
    file = tmp_path / "config.json"
    file.write_text("{}")
    monkeypatch.setenv("METIS_CONFIG_FILE", str(file))
    memory = memory_at(mem0)
    settings = load_settings(database_url=postgres_dsn_factory("upkeep"))
    return memory, upkeep(settings), file


def swap(file, text):
    """As the kubelet does it: the whole file at once."""
    staged = file.with_suffix(".new")
    staged.write_text(text)
    staged.replace(file)


async def test_limits_are_taken_up_while_it_runs_and_bad_ones_change_nothing(running, soon):
    memory, kept_up, file = running
    async with kept_up:
        client = memory.get_mem0_client()
        assert client.recall_cache.ttl == 60
        swap(file, json.dumps({"mem0_recall_cache_ttl": 5, "mem0_search_cache_size": 7}))
        await soon(lambda: client.recall_cache.ttl == 5)
        assert client.search_cache.maxsize == 7
        assert client.archival_cache.maxsize == 2000
        for bad in ('{"mem0_recall_cache_ttl": -1}', "{", '{"nonsense": 1}'):
            swap(file, bad)
        swap(file, json.dumps({"mem0_human_cache_size": 3}))
        await soon(lambda: client.human_cache.maxsize == 3)
        assert client.recall_cache.ttl == 60


async def test_each_cache_tells_its_figures_to_prometheus(running, human, soon):
    memory, kept_up, _ = running

    def figure(name, **labels):
        return next(
            sample.value
            for family in text_string_to_metric_families(generate_latest().decode())
            for sample in family.samples
            if sample.name == name and sample.labels == labels
        )

    async with kept_up:
        await soon(lambda: figure("metis_memory_coherent") == 1)
        loads = figure("metis_memory_cache_load_seconds_count", cache="recall")
        memory.store_message(human, "user", "hello")
        memory.get_conversation_history(human)
        memory.get_conversation_history(human)
        for name, value in (
            ("hits_total", 1), ("misses_total", 1), ("evictions_total", 0), ("errors_total", 0),
            ("bypassed_total", 0), ("entries", 1),
        ):  # fmt: skip
            assert figure(f"metis_memory_cache_{name}", cache="recall") == value, name
        assert figure("metis_memory_cache_load_seconds_count", cache="recall") == loads + 1
        assert figure("metis_memory_invalidations_total", direction="told") > 0
        assert figure("metis_mem0_request_seconds_count", operation="append_message") > 0


async def test_without_memory_there_is_nothing_to_keep_up(memory_at, mem0):
    memory = memory_at(mem0)
    memory.SETTINGS.use_mem0 = False
    async with upkeep(load_settings()):
        assert memory.get_mem0_client() is None


async def test_a_database_that_is_away_bypasses_the_caches_and_stops_nothing(
    memory_at, mem0, human, free_port
):
    memory = memory_at(mem0)
    away = load_settings(database_url=f"postgresql://u:p@127.0.0.1:{free_port()}/none")
    async with upkeep(away):
        assert memory.store_message(human, "user", "hello")
        for _ in range(2):
            assert len(memory.get_conversation_history(human)) == 1
        assert memory.get_mem0_client().stats()["recall"].bypassed == 2
