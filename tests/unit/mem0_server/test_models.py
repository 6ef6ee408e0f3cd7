import tomllib
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

import mem0_server
from mem0_server import errors
from mem0_server.migrate import alembic_config
from mem0_server.models import Identifier, Object
from mem0_server.schema import SCHEMA_VERSION

OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(Object)
IDENTIFIER: TypeAdapter[str] = TypeAdapter(Identifier)


@pytest.mark.parametrize(
    "data",
    [{"a": "\x00"}, {"\x00": 1}, {"a": [float("nan")]}, {"a": float("inf")}, {"a": "\ud800"}],
)
def test_what_postgresql_cannot_hold_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        OBJECT.validate_python(data)


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_an_accepted_object_has_no_nul_and_is_utf8(data: dict[str, Any]) -> None:
    try:
        accepted = OBJECT.validate_python(data)
    except ValidationError:
        assert any("\x00" in text for pair in data.items() for text in map(str, pair))
    else:
        assert accepted == data
        assert not any("\x00" in text for pair in data.items() for text in map(str, pair))


def test_a_backslash_before_u0000_is_text() -> None:
    assert OBJECT.validate_python({"a": "\\u0000"})


@pytest.mark.parametrize("identifier", ["", "x" * 201, "a\x00b", "\ud800"])
def test_an_identifier_can_be_stored(identifier: str) -> None:
    with pytest.raises(ValidationError):
        IDENTIFIER.validate_python(identifier)


def test_the_schema_s_version_is_alembic_s_head() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [SCHEMA_VERSION]


def test_the_version_is_the_project_s() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    assert mem0_server.__version__ == project["version"]


def test_every_error_stands_in_the_tree_that_is_documented() -> None:
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.Mem0ServerError)
    ]
    assert errors.__doc__ is not None
    for one in classes:
        assert one.__name__ in errors.__doc__
        if issubclass(one, errors.UnavailableError):
            assert (one.status, bool(one.retry_after)) == (503, True)
