"""Keys: which user a header names."""

from __future__ import annotations

import hashlib
import json

import pytest

from app.core.auth import LOCAL_USER, SingleUser, User, parse_keys
from app.errors import ConfigurationError
from app.rag.library import safe_name

DIGEST = hashlib.sha256(b"key").hexdigest()


def test_single_user_needs_no_key() -> None:
    assert SingleUser().authenticate(None) == LOCAL_USER == User("local", "admin")
    assert SingleUser().authenticate("Bearer whatever").id == "local"


def test_keys_file() -> None:
    entries = [
        {"user": "ann", "role": "admin", "sha256": DIGEST.upper()},
        {"user": "ben", "sha256": DIGEST},
    ]
    assert parse_keys(json.dumps({"keys": entries}), "f") == [
        (DIGEST, User("ann", "admin")),
        (DIGEST, User("ben", "user")),
    ]
    assert parse_keys('{"keys": []}', "f") == []


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("text", r"keys\[0\]"),
        ({"role": "user", "sha256": DIGEST}, r"keys\[0\]\.user"),
        ({"user": " ", "sha256": DIGEST}, r"keys\[0\]\.user"),
        ({"user": "ann", "role": "root", "sha256": DIGEST}, r"keys\[0\]\.role"),
        ({"user": "ann", "sha256": "key"}, r"keys\[0\]\.sha256"),
        ({"user": "ann", "sha256": DIGEST + "0"}, r"keys\[0\]\.sha256"),
        ({"user": "ann"}, r"keys\[0\]\.sha256"),
    ],
)
def test_the_entry_at_fault_is_named(entry: object, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        parse_keys(json.dumps({"keys": [entry]}), "keys.json")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": {}}', '{"keys": null}', "null"])
def test_other_shapes_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"keys\.json"):
        parse_keys(text, "keys.json")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("plan.pdf", "plan.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\docs\\plan.pdf", "plan.pdf"),
        ("a\x00b\nc.md", "abc.md"),
        ("", "unnamed"),
        (None, "unnamed"),
        ("dir/", "unnamed"),
        ("x" * 300 + ".pdf", "x" * 196 + ".pdf"),
        ("\udcff.md", "?.md"),
    ],
)
def test_file_names_are_made_safe(given: str | None, kept: str) -> None:
    assert safe_name(given) == kept
