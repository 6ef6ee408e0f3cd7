"""The command line: how it is called, and how it ends."""

from __future__ import annotations

import io
import shlex

import pytest
from metis_operator.cli.exits import MEANING, Exit
from metis_operator.cli.main import COMMANDS, build_parser, main, parse, program_name
from metis_operator.cli.terminal import Terminal


@pytest.mark.parametrize(
    ("argv0", "name"),
    [
        ("/usr/local/bin/kubectl-metis", "kubectl metis"),
        ("/root/.local/bin/metis", "metis"),
        ("/srv/metis_operator/__main__.py", "python -m metis_operator"),
    ],
)
def test_it_names_itself_as_it_was_called(argv0: str, name: str) -> None:
    assert program_name(argv0) == name


def test_every_exit_code_is_explained() -> None:
    assert set(MEANING) == set(Exit)


@pytest.mark.parametrize("argv", [["statu"], [], ["status", "--outputs", "json"]])
def test_a_wrong_call_ends_with_its_own_code(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == Exit.USAGE
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.NAME)
def test_every_command_explains_itself_and_its_examples_are_valid(command: object) -> None:
    parser = build_parser("kubectl metis")
    assert command.EXAMPLES  # type: ignore[attr-defined]
    for words, _ in command.EXAMPLES:  # type: ignore[attr-defined]
        assert parser.parse_args(shlex.split(words)).command is command


@pytest.mark.parametrize("name", ["", *(c.NAME for c in COMMANDS), "run", "completion"])
def test_help_can_be_read(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*name.split(), "--help"])
    assert ended.value.code == 0
    assert "usage: " in capsys.readouterr().out


def test_words_may_follow_an_option() -> None:
    parser = build_parser("metis")
    found = parse(parser, ["logs", "demo", "-f", "app", "-n", "x", "mem0"])
    assert (found.name, found.components) == ("demo", ["app", "mem0"])
    assert parse(parser, ["ask", "a", "-n", "x", "b"]).question == ["a", "b"]
    for words in (["status", "a", "-A", "b"], ["logs", "a", "--fellow"]):
        with pytest.raises(SystemExit):
            parse(parser, words)


def test_colour_needs_a_terminal_and_consent() -> None:
    plain = Terminal(io.StringIO(), io.StringIO())
    assert plain.style("x", "bad") == "x"
    coloured = Terminal(io.StringIO(), io.StringIO(), colour=True)
    assert coloured.style("x", "bad") == "\x1b[31mx\x1b[0m"


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert Terminal.of_process(env={"TERM": "xterm"}).colour
    assert not Terminal.of_process(env={"NO_COLOR": "1"}).colour
    assert not Terminal.of_process(env={"TERM": "dumb"}).colour
    assert not Terminal.of_process(env={}, no_color=True).colour
