"""Trees, wrapping and ages."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from metis_operator.cli.layout import Node, age, since, tree
from metis_operator.cli.terminal import Terminal, printable


def lines(*roots: Node, width: int = 60) -> list[str]:
    return tree(roots, Terminal(io.StringIO(), io.StringIO(), width=width))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (3599, "59m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (11_100, "3h5m"),
        (100_000, "27h"),
        (200_000, "2d"),
        (-5, "0s"),
    ],
)
def test_ages_read_as_kubectls(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_since_takes_what_the_api_server_writes() -> None:
    now = datetime(2026, 1, 1, 0, 5, tzinfo=UTC)
    assert since("2026-01-01T00:00:00Z", now) == "5m"
    assert since("2026-01-01T00:04:59.123456Z", now) == "0s"
    assert since(None, now) == ""
    assert since("yesterday", now) == ""


def test_siblings_align_and_notes_stand_below() -> None:
    root = Node(
        ["demo", "Degraded"],
        "bad",
        "the note of the whole",
        [
            Node(["app", "0/1", "CrashLoop"], "bad", "one two three " * 6),
            Node(["metis-postgres", "1/1", ""], "good"),
        ],
    )
    assert lines(root) == [
        "✗ demo  Degraded",
        "│ the note of the whole",
        "├─ ✗ app             0/1  CrashLoop",
        "│    one two three one two three one two three one two three",
        "│    one two three one two three",
        "└─ ✓ metis-postgres  1/1",
    ]


def test_a_long_last_cell_goes_on_below_itself() -> None:
    root = Node(["demo"], "good", children=[Node(["models", "word " * 14], "fact"), Node(["x"])])
    assert lines(root, width=50) == [
        "✓ demo",
        "├─ · models  word word word word word word word",
        "│            word word word word word word word",
        "└─ x",
    ]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_nothing_is_wider_than_the_terminal(width: int) -> None:
    words = "some words of an ordinary message " * 12
    child = Node(["component", "0/1", words], "wait", words, [Node(["below", words])])
    assert max(map(len, lines(Node(["demo"], "bad", words, [child]), width=width))) <= width


def test_a_terminal_without_unicode_gets_none() -> None:
    class Ascii(io.StringIO):
        encoding = "ascii"

    terminal = Terminal(Ascii(), io.StringIO())
    found = tree([Node(["demo"], "bad", "note", [Node(["app"], "good")])], terminal)
    assert "\n".join(found).isascii()


def test_nothing_in_a_cluster_steers_the_terminal() -> None:
    assert printable("a\x1b[31mb\x07") == "a[31mb"
    assert "\x1b" not in "".join(lines(Node(["\x1b]0;x\x07"], "bad", "\x1b[2J")))
