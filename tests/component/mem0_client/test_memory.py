"""The whole client against the real server and a real PostgreSQL."""

import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import pytest

AGENT = "metis_rag_agent"


@pytest.fixture
def client(memory):
    return memory.get_mem0_client()


def loads(client) -> int:
    return sum(stats.loads for stats in client.stats().values())


def say(client, human, *texts):
    for text in texts:
        assert client.append_message(AGENT, human, {"role": "user", "content": text})


def heard(client, human, limit=10):
    return [message["content"] for message in client.get_recall_memory(AGENT, human, limit)]


# --- the client ---------------------------------------------------------------------------------


def test_the_first_use_makes_the_agent_with_its_persona(memory, client):
    agent = client.get_agent(AGENT)
    assert (agent["id"], agent["persona"]) == (AGENT, memory.METIS_PERSONA)
    assert client.create_agent("other", "Other", "Somebody else.") is True
    assert client.get_agent("other")["persona"] == "Somebody else."
    assert client.create_agent("other", "Other", "Somebody new.") is True
    assert client.get_agent("other")["persona"] == "Somebody new."


def test_a_human_is_found_once_made_and_a_change_of_name_shows(client, human):
    assert client.get_human(human) is None
    assert client.create_human(human, "Ann") is True
    assert client.get_human(human)["name"] == "Ann"
    assert client.create_human(human, "Anna") is True
    assert client.get_human(human)["name"] == "Anna"


def test_messages_come_back_newest_n_oldest_first(client, human):
    client.create_human(human, "Ann")
    say(client, human, *"abcde")
    assert heard(client, human) == list("abcde")
    assert heard(client, human, 2) == list("de")


def test_an_own_write_is_seen_at_once_at_every_limit(client, human):
    client.create_human(human, "Ann")
    for count, text in enumerate("abc", 1):
        say(client, human, text)
        assert heard(client, human, 1) == [text]
        assert len(heard(client, human, 10)) == count


def test_what_was_read_is_read_from_the_cache_and_cannot_be_poisoned(client, human):
    client.create_human(human, "Ann")
    say(client, human, "hello")
    client.create_archival_memory(AGENT, human, {"tags": ["x"]}, "note")

    def read():
        return (
            client.get_agent(AGENT),
            client.get_human(human),
            client.get_recall_memory(AGENT, human),
            client.get_archival_memory(AGENT, human, "note"),
            client.search_archival_memory(AGENT, human, None, "note"),
        )

    first, before = read(), loads(client)
    kept = repr(first)
    first[1]["name"] = first[2][0]["content"] = "poison"
    first[3][0]["data"]["tags"].append("poison")
    first[4].clear()
    assert repr(read()) == kept
    assert loads(client) == before


def test_a_write_leaves_the_neighbours_in_the_cache(client, human):
    for name in (human, f"{human}0"):
        client.create_human(name, "Ann")
        say(client, name, "hello")
        client.create_archival_memory(AGENT, name, {}, "note")
        client.create_archival_memory(AGENT, name, {}, "notebook")
        heard(client, name)
        for kind in ("note", "notebook"):
            client.get_archival_memory(AGENT, name, kind)
    say(client, human, "again")
    client.create_archival_memory(AGENT, human, {}, "note")
    before = loads(client)
    heard(client, f"{human}0")
    for kind in ("note", "notebook"):
        client.get_archival_memory(AGENT, f"{human}0", kind)
    client.get_archival_memory(AGENT, human, "notebook")
    assert loads(client) == before
    assert len(client.get_archival_memory(AGENT, human, "note")) == 2
    assert loads(client) == before + 1


def test_archival_records_come_newest_first_and_can_be_replaced(client, human):
    client.create_human(human, "Ann")
    for number in (1, 2, 3):
        assert client.create_archival_memory(AGENT, human, {"n": number}, "note") is True
    client.create_archival_memory(AGENT, human, {"n": 9}, "other")

    def numbers(kind, limit=10):
        found = client.get_archival_memory(AGENT, human, kind, limit)
        return [record["data"]["n"] for record in found]

    assert numbers("note") == [3, 2, 1]
    assert numbers("note", 2) == [3, 2]
    assert client.create_archival_memory(AGENT, human, {"n": 4}, "note", replace=True) is True
    assert (numbers("note"), numbers("other")) == ([4], [9])
    newest = client.search_archival_memory(AGENT, human, None, "note")
    assert [record["data"] for record in newest] == [{"n": 4}]


def test_one_idempotency_key_stores_one_thing(client, human):
    client.create_human(human, "Ann")
    message = {"role": "user", "content": "once"}
    for _ in range(3):
        assert client.append_message(AGENT, human, message, idempotency_key="k") is True
        assert client.create_archival_memory(AGENT, human, {}, "n", idempotency_key="k") is True
    assert heard(client, human) == ["once"]
    assert len(client.get_archival_memory(AGENT, human, "n")) == 1


def test_the_client_creates_nobody_by_itself(client, human):
    assert client.append_message(AGENT, human, {"role": "user", "content": "x"}) is False
    assert client.create_archival_memory(AGENT, human, {}, "note") is False
    assert client.get_recall_memory(AGENT, human) == []
    assert client.get_archival_memory(AGENT, human, "note") == []
    assert client.search_archival_memory(AGENT, human, None, "note") == []
    client.clear_cache()
    assert client.get_human(human) is None
    client.create_human(human, "Ann")
    assert client.append_message("nobody", human, {"role": "user", "content": "x"}) is False
    assert client.get_agent("nobody") is None


def test_what_the_server_refuses_gives_the_empty_answer(client, human):
    client.create_human(human, "Ann")
    assert client.append_message(AGENT, human, {"role": "nonsense", "content": "x"}) is False
    assert client.append_message(AGENT, human, {"role": "user"}) is False
    assert client.append_message(AGENT, human, {"role": "user", "content": "\ud800"}) is False
    assert client.create_archival_memory(AGENT, human, {"n": {1, 2}}, "note") is False
    assert client.get_recall_memory(AGENT, human, limit=0) == []
    assert client.get_human("") is None
    assert heard(client, human) == []
    assert client.degraded is False


@pytest.mark.parametrize(
    "name",
    ["a/b", "..", "ü ñ 漢字 🙂", "a?b=c#d", "50%25", " blank ", "e\u0301", "\u00e9", 'q"uo\\te'],
)
def test_an_id_may_hold_anything(memory, client, name):
    assert memory.store_message(name, "user", f"I am {name}") is True
    assert memory.store_user_preferences(name, {"name": name}) is True
    client.clear_cache()
    assert heard(client, name) == [f"I am {name}"]
    assert memory.get_user_preferences(name) == {"name": name}
    assert client.get_human(name)["id"] == name


def test_a_search_finds_the_nearest_and_its_failure_harms_nothing_else(
    own_mem0, memory_at, scripted_ollama, eventually
):
    client = memory_at(own_mem0).get_mem0_client()
    client.create_human("ann", "Ann")
    for text in ("a red sailing boat", "green tea at noon"):
        client.create_archival_memory(AGENT, "ann", {"text": text}, "note")
    eventually(lambda: own_mem0.get("/status").json()["backlog"] == 0, 30)

    def search(query):
        found = client.search_archival_memory(AGENT, "ann", query, "note", limit=1)
        return [record["data"]["text"] for record in found]

    assert search("red sailing boat") == ["a red sailing boat"]
    assert search("green tea") == ["green tea at noon"]
    client.create_archival_memory(AGENT, "ann", {"text": "red wine"}, "note", replace=True)
    eventually(lambda: own_mem0.get("/status").json()["backlog"] == 0, 30)
    assert search("red sailing boat") == ["red wine"]

    scripted_ollama.down = True
    assert search("something else") == []
    assert client.stats()["search"].errors == 1
    assert len(client.get_archival_memory(AGENT, "ann", "note")) == 1
    assert client.degraded is False
    scripted_ollama.down = False
    eventually(lambda: search("something else") == ["red wine"], 30)  # the failure was not kept


# --- the functions ------------------------------------------------------------------------------


def test_what_is_stored_for_a_stranger_is_there_and_makes_the_stranger_known(memory, human):
    assert memory.get_conversation_history(human) == []
    assert memory.get_user_preferences(human) == {}
    assert memory.get_document_interactions(human) == []
    assert memory.get_mem0_client().get_human(human) is None

    assert memory.store_message(human, "user", "hello") is True
    assert memory.store_user_preferences(human, {"style": "short", "language": "de"}) is True
    assert memory.store_user_preferences(human, {"style": "long"}) is True
    (message,) = memory.get_conversation_history(human)
    assert (message["role"], message["content"]) == ("user", "hello")
    assert memory.get_user_preferences(human) == {"style": "long"}
    assert memory.get_mem0_client().get_human(human)["name"] == human
    assert memory.memory_status() == "ok"


def test_interactions_are_filtered_exactly_and_newest_first(memory, human):
    for number in range(12):
        document, kind = f"doc{number % 3}", ("view", "cite")[number % 2]
        assert memory.store_document_interaction(human, document, kind, {"n": number}) is True

    def numbers(**filters):
        return [i["data"]["n"] for i in memory.get_document_interactions(human, **filters)]

    assert numbers() == [11, 10, 9, 8, 7, 6, 5, 4, 3, 2]
    assert numbers(limit=2) == [11, 10]
    assert numbers(document_id="doc1") == [10, 7, 4, 1]
    assert numbers(interaction_type="view", limit=3) == [10, 8, 6]
    assert numbers(document_id="doc1", interaction_type="view") == [10, 4]
    assert numbers(document_id="doc") == []
    newest = memory.get_document_interactions(human, limit=1)[0]
    assert (newest["document_id"], newest["interaction_type"]) == ("doc2", "cite")
    assert newest["created_at"]


def test_someone_deleted_elsewhere_is_made_anew_with_the_next_message(memory, mem0, human):
    assert memory.store_message(human, "user", "before") is True
    memory.get_conversation_history(human)
    gone = httpx.delete(f"{mem0.url}/humans/{quote(human)}", headers={"X-API-Key": mem0.key})
    assert gone.is_success
    assert memory.store_message(human, "user", "after") is True
    assert [m["content"] for m in memory.get_conversation_history(human)] == ["after"]


def test_many_threads_lose_nothing_and_double_nothing(memory, human):
    together = threading.Barrier(8)

    def talk(speaker):
        together.wait(10)
        for number in range(10):
            assert memory.store_message(human, "user", f"{speaker}:{number}") is True
            said = [m["content"] for m in memory.get_conversation_history(human, limit=100)]
            assert f"{speaker}:{number}" in said

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(talk, speaker) for speaker in range(8)]:
            done.result(60)
    said = [m["content"] for m in memory.get_conversation_history(human, limit=100)]
    assert sorted(said) == sorted(f"{s}:{n}" for s in range(8) for n in range(10))
    for speaker in range(8):
        own = [text for text in said if text.startswith(f"{speaker}:")]
        assert own == [f"{speaker}:{n}" for n in range(10)]
