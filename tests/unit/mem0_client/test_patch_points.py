"""Names that tests elsewhere replace at ``app.rag.mem0_client``: replacing them takes effect.

What the client does with a real server is tested in ``tests/component/mem0_client``.
"""

import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from unittest.mock import MagicMock, create_autospec, patch

import pytest
import structlog
from cachetools import TTLCache

from app.rag import mem0_client as module
from app.rag.mem0_http import Mem0Client


@pytest.fixture(autouse=True)
def no_client_yet(monkeypatch):
    monkeypatch.setattr(module, "_mem0_client", None)


@pytest.fixture
def settings(monkeypatch):
    made = SimpleNamespace(
        use_mem0=True,
        mem0_endpoint="http://mem0.test:8050",
        mem0_api_key="mk_test",
        mem0_api_key_dir=None,
    )
    monkeypatch.setattr(module, "SETTINGS", made)
    return made


@pytest.fixture
def client_class(settings):
    with patch.object(module, "EnhancedMem0Client", autospec=True) as made:
        yield made


@pytest.fixture
def client(client_class):
    return client_class.return_value


def test_the_client_is_made_once_from_the_settings(client_class):
    assert module.get_mem0_client() is client_class.return_value
    assert module.get_mem0_client() is client_class.return_value
    client_class.assert_called_once_with(api_key="mk_test", endpoint="http://mem0.test:8050")


def test_many_threads_get_one_client(client_class):
    together = threading.Barrier(16)

    def get():
        together.wait(10)
        return module.get_mem0_client()

    with ThreadPoolExecutor(16) as pool:
        got = [future.result(10) for future in [pool.submit(get) for _ in range(16)]]
    assert set(map(id, got)) == {id(client_class.return_value)}
    client_class.assert_called_once()


def test_a_missing_agent_is_made_with_its_persona(client):
    client.get_agent.return_value = None
    module.get_mem0_client()
    client.create_agent.assert_called_once_with(
        agent_id="metis_rag_agent", name=module.AGENT_NAME, persona=module.METIS_PERSONA
    )


def test_an_agent_that_is_there_is_left_alone(client):
    module.get_mem0_client()
    client.create_agent.assert_not_called()


@pytest.mark.parametrize("switch", ["use_mem0", "MEM0_AVAILABLE"])
def test_without_memory_everything_gives_its_empty_answer(switch, settings, client_class):
    module.get_mem0_client()  # a client made earlier is not used any more
    client_class.reset_mock()
    with (
        patch.object(settings, "use_mem0", switch != "use_mem0"),
        patch.object(module, "MEM0_AVAILABLE", switch != "MEM0_AVAILABLE"),
    ):
        assert module.get_mem0_client() is None
        assert module.get_or_create_human("ann") is False
        assert module.store_message("ann", "user", "hello") is False
        assert module.get_conversation_history("ann") == []
        assert module.store_user_preferences("ann", {"style": "short"}) is False
        assert module.get_user_preferences("ann") == {}
        assert module.store_document_interaction("ann", "d1", "view", {}) is False
        assert module.get_document_interactions("ann") == []
        assert module.memory_status() == "off"
    assert client_class.mock_calls == []


def test_a_client_that_cannot_be_made_is_no_client(client_class):
    client_class.side_effect = ValueError("bad endpoint")
    assert module.get_mem0_client() is None
    client_class.side_effect = None
    assert module.get_mem0_client() is client_class.return_value


def test_store_message_ensures_the_human_and_appends_once(client):
    client.append_message.return_value = True
    with patch.object(module, "get_or_create_human", return_value=True) as ensure:
        assert module.store_message("ann", "user", "hello") is True
    ensure.assert_called_once_with("ann")
    client.append_message.assert_called_once_with(
        agent_id="metis_rag_agent",
        human_id="ann",
        message={"role": "user", "content": "hello"},
    )


def test_nothing_is_stored_for_a_human_who_cannot_be_made(client):
    with patch.object(module, "get_or_create_human", return_value=False):
        assert module.store_message("ann", "user", "hello") is False
    client.append_message.assert_not_called()


def test_a_known_human_is_not_made_again_and_a_new_one_gets_a_name(client):
    assert module.get_or_create_human("ann") is True
    client.create_human.assert_not_called()
    client.get_human.return_value = None
    client.create_human.return_value = True
    assert module.get_or_create_human("bob") is True
    assert module.get_or_create_human("bob", name="Bob") is True
    assert [call.kwargs["name"] for call in client.create_human.call_args_list] == ["bob", "Bob"]


def test_preferences_replace_and_interactions_add(client):
    client.create_archival_memory.return_value = True
    assert module.store_user_preferences("ann", {"style": "short"}) is True
    assert module.store_document_interaction("ann", "d1", "view", {"page": 3}) is True
    first, second = (call.kwargs for call in client.create_archival_memory.call_args_list)
    assert first["replace"] is True
    assert first["data"] == {"style": "short"}
    assert not second.get("replace")
    assert second["data"] == {
        "document_id": "d1",
        "interaction_type": "view",
        "data": {"page": 3},
    }


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        (lambda: module.get_or_create_human("ann"), False),
        (lambda: module.store_message("ann", "user", "hello"), False),
        (lambda: module.get_conversation_history("ann"), []),
        (lambda: module.store_user_preferences("ann", {}), False),
        (lambda: module.get_user_preferences("ann"), {}),
        (lambda: module.store_document_interaction("ann", "d", "view", {}), False),
        (lambda: module.get_document_interactions("ann"), []),
    ],
)
def test_even_a_client_that_breaks_its_promise_raises_at_nobody(call, answer, client):
    for method in ("get_human", "append_message", "get_recall_memory", "get_archival_memory"):
        getattr(client, method).side_effect = RuntimeError("broken")
    client.create_archival_memory.side_effect = RuntimeError("broken")
    assert call() == answer


def test_the_plain_client_can_be_replaced_and_its_failures_stay_inside(settings):
    with patch.object(module, "Mem0Client", autospec=True) as plain:
        client = module.EnhancedMem0Client(api_key="mk_other", endpoint="http://there:1")
    assert plain.call_args.kwargs["api_key"] == "mk_other"
    assert plain.call_args.kwargs["endpoint"] == client.endpoint == "http://there:1"
    for name, method in inspect.getmembers(module.EnhancedMem0Client, inspect.isfunction):
        if not name.startswith("_") and hasattr(Mem0Client, name):
            getattr(client.client, name).side_effect = RuntimeError("broken")
            arguments = ["x"] * (len(inspect.signature(method).parameters) - 1)
            assert getattr(client, name)(*arguments) in (None, False, [])


def test_reads_are_served_by_the_caches_and_clear_cache_empties_them_by_type(settings):
    client = module.EnhancedMem0Client()
    client.client = create_autospec(Mem0Client, instance=True)
    client.client.get_human.return_value = {"id": "ann"}
    for name in ("get_recall_memory", "get_archival_memory", "search_archival_memory"):
        getattr(client.client, name).return_value = [{"id": 1}]

    def read_all():
        client.client.reset_mock()
        client.get_human("ann")
        client.get_recall_memory("a", "ann")
        client.get_archival_memory("a", "ann", "k")
        client.search_archival_memory("a", "ann", None, "k")
        return [name for name, _, _ in client.client.mock_calls]

    everything = [
        "get_human", "get_recall_memory", "get_archival_memory", "search_archival_memory"
    ]  # fmt: skip
    assert read_all() == everything
    assert read_all() == []
    for cache_type, name in zip(("human", "recall", "archival", "search"), everything, strict=True):
        client.clear_cache(cache_type)
        assert read_all() == [name]
    client.clear_cache()
    assert read_all() == everything
    client.clear_cache("nonsense")
    assert read_all() == []


def test_the_caches_have_their_sizes_and_ttls_from_the_settings_or_the_defaults(settings):
    client = module.EnhancedMem0Client()
    shapes = {
        name: (cache.maxsize, cache.ttl)
        for name in dir(client)
        if isinstance(cache := getattr(client, name), TTLCache)
    }
    assert shapes == {
        "human_cache": (1000, 300),
        "recall_cache": (1000, 60),
        "archival_cache": (2000, 300),
        "search_cache": (2000, 120),
    }
    settings.mem0_recall_cache_size, settings.mem0_recall_cache_ttl = 5, 1.5
    settings.mem0_search_cache_size = MagicMock()  # whatever is no number leaves the default
    client = module.EnhancedMem0Client()
    assert (client.recall_cache.maxsize, client.recall_cache.ttl) == (5, 1.5)
    assert client.search_cache.maxsize == 2000


def test_what_a_user_says_is_not_logged(settings):
    client = module.EnhancedMem0Client()
    client.client = create_autospec(Mem0Client, instance=True)
    client.client.append_message.side_effect = RuntimeError("broken pipe")
    with structlog.testing.capture_logs() as logs:
        client.append_message("a", "h", {"role": "user", "content": "my secret wish"})
    (entry,) = logs
    assert entry["operation"] == "append_message"
    assert "broken pipe" in repr(entry)
    assert "secret wish" not in repr(entry)
