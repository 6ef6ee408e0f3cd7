"""The search for secret values finds one wherever it was planted, however it is written."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.e2e.told.search import find, forms

VALUE = "mk_Zm9v-bar/baz+qux="
OTHER = "8Jq_ww1oVn3Zr-another"
SECRETS = {VALUE: "team/demo-mem0-key current", OTHER: "team/demo-auth admin-key"}


def plant(folder: Path, text: str) -> None:
    (folder / "logs" / "pod" / "app").mkdir(parents=True)
    (folder / "logs" / "pod" / "app" / "0.log").write_text("a line\n" + text)
    (folder / "words").write_text("PATH=/bin\nnothing to see\n")


@pytest.mark.parametrize(
    "written",
    [
        f"key={VALUE}\n",
        f'{{"key":"{VALUE}"}}',
        f"postgresql://user:{quote(VALUE, safe='')}@db/metis",
        base64.b64encode(VALUE.encode()).decode(),
        base64.b64encode(VALUE.encode() + b"\n").decode(),
        f"\x00\xff binary {VALUE}\x00",
        f"two of them: {VALUE} {VALUE}",
    ],
)
def test_a_planted_value_is_found_and_not_repeated(tmp_path: Path, written: str) -> None:
    plant(tmp_path, written)
    assert find(tmp_path, SECRETS) == ["logs/pod/app/0.log: team/demo-mem0-key current"]


def test_nothing_is_found_where_nothing_was_planted(tmp_path: Path) -> None:
    plant(tmp_path, VALUE[:-1] + " " + OTHER[1:] + " fingerprint 0123456789ab")
    assert find(tmp_path, SECRETS) == []
    assert find(tmp_path, {}) == []


def test_short_values_and_frames_of_keys_are_not_looked_for() -> None:
    assert forms("postgres") == set()
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----END PRIVATE KEY-----\n"
    assert "MIIEvQIBADANBgkqhkiG9w0B" in forms(key)
    assert not any("BEGIN" in form for form in forms(key))
