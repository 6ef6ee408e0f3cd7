"""Logs, answers and completion: what is made of their streams and words."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from typing import Any

import pytest
from metis_operator.cli.answers import Flow, events, source_lines
from metis_operator.cli.completion import SCRIPTS, candidates
from metis_operator.cli.exits import CommandError
from metis_operator.cli.logs import duration, sources
from metis_operator.cli.main import COMMANDS, build_parser


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("1h30m", 5400), ("2d", 172_800)])
def test_durations(text: str, seconds: int) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "-5m", "5 m", "1w"])
def test_no_durations(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="write 90s"):
        duration(text)


def pod(name: str, init: dict[str, Any], main: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "status": {
            "initContainerStatuses": [{"name": "prepare", **init}],
            "containerStatuses": [{"name": "app", **main}],
        },
    }


RUNNING = {"state": {"running": {}}}
DONE = {"state": {"terminated": {"exitCode": 0}}}
FAILED = {
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    "lastState": {"terminated": {"exitCode": 1}},
}
WAITING = {"state": {"waiting": {"reason": "PodInitializing"}}}


def test_who_has_something_to_say() -> None:
    well, stuck = pod("demo-app-1", DONE, RUNNING), pod("demo-app-2", FAILED, WAITING)
    labels = [s.label for s in sources([stuck, well], "demo", previous=False)]
    assert labels == ["app-1", "app-2/prepare"]
    assert [s.label for s in sources([stuck, well], "demo", previous=True)] == ["app-2/prepare"]


async def stream(text: str) -> AsyncIterator[str]:
    for line in text.split("\n"):
        yield line


async def test_events_of_an_answer() -> None:
    text = ': beat\n\nevent: token\ndata: {"text": "a: b"}\n\nevent: done\ndata: {}\n\n'
    assert [e async for e in events(stream(text))] == [("token", {"text": "a: b"}), ("done", {})]
    with pytest.raises(CommandError, match="not the app"):
        _ = [e async for e in events(stream("data: <html>\n\n"))]


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_words_break_between_lines_however_they_come(size: int) -> None:
    text = "one two three four five\n\n- six seven eight nine"
    flow = Flow(12)
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    shown = "".join(map(flow.add, pieces)) + flow.end()
    assert [line.rstrip() for line in shown.split("\n")] == [
        "one two",
        "three four",
        "five",
        "",
        "- six seven",
        "eight nine",
    ]


def test_sources_are_listed_by_number() -> None:
    found = [
        {"number": 2, "document_name": "b\x1b.pdf", "page": 3},
        {"number": 1, "document_name": "a.md", "section": "Leave\nand more"},
    ]
    assert source_lines(found) == ["[1] a.md, Leave and more", "[2] b.pdf, page 3"]


def complete(*words: str) -> list[str]:
    return [name for name, _ in candidates(build_parser("metis"), words)[0]]


def test_completion_knows_commands_options_and_choices() -> None:
    assert complete("st") == ["status"]
    assert {c.NAME for c in COMMANDS} < set(complete(""))
    assert complete("logs", "--fo") == ["--follow"]
    assert complete("status", "-o", "") == ["text", "json"]
    assert complete("restart", "demo", "mem0", "m") == ["metis-postgres", "mem0-postgres"]
    assert complete("completion", "") == list(SCRIPTS)
    assert complete("ask", "wh") == []


def test_a_file_is_completed_by_the_shell() -> None:
    assert candidates(build_parser("metis"), ["plan", "-f", ""]) == ([], True)
