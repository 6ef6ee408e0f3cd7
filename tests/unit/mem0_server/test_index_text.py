from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from mem0_server.index.text import (
    MAX_CHARACTERS,
    RESERVED,
    collection_name,
    filters_of,
    payload_of,
    text_of,
)
from mem0_server.store.jobs import Job, Scope

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def test_a_record_is_read_as_its_fields() -> None:
    data = {
        "language": "German",
        "style": {"length": "short"},
        "tags": ["tea", "trains"],
        "n": None,
    }
    assert text_of("preferences", data) == (
        "language: German\nstyle length: short\ntags: tea\ntags: trains"
    )


def test_a_memory_is_its_words() -> None:
    assert text_of("mem0", {"memory": "likes tea", "metadata": {"x": 1}}) == "likes tea"


@given(st.dictionaries(st.text(), JSON))
def test_any_record_has_a_text_of_bounded_length(data: dict[str, Any]) -> None:
    text = text_of("k", data)
    assert 0 < len(text) <= MAX_CHARACTERS


@given(st.text(min_size=1), st.integers(1, 9999))
def test_a_collection_s_name_leaves_room_for_its_indexes(model: str, dimensions: int) -> None:
    name = collection_name(model, dimensions)
    assert len(f"{name}_text_lemmatized_idx") <= 63
    assert name == collection_name(model, dimensions)
    assert name != collection_name(model + "x", dimensions)
    assert name.replace("_", "a").isalnum()


@given(st.text(min_size=1))
def test_a_filter_value_is_never_a_wildcard_or_blank(identifier: str) -> None:
    scope = Scope(human_id=identifier, agent_id=identifier)
    for value in filters_of(scope, identifier).values():
        assert value != "*"
        assert not any(character.isspace() for character in value)


def test_metadata_cannot_take_another_scope() -> None:
    metadata = dict.fromkeys(RESERVED, "stolen") | {"topic": "tea"}
    data = {"memory": "likes tea", "metadata": metadata, "role": "user"}
    created = datetime.now(UTC).isoformat()
    job = Job(uuid4(), Scope(human_id="ada", run_id="r 1"), "mem0", data, created)
    payload = payload_of(job, "likes tea", "like tea")
    assert "stolen" not in payload.values()
    assert payload["topic"] == "tea"
    assert (payload["user_id"], payload["run_id"]) == ("ada", "r%201")
    assert "agent_id" not in payload
    assert (payload["data"], payload["text_lemmatized"]) == ("likes tea", "like tea")
    assert (payload["_kind"], payload["role"]) == ("mem0", "user")
