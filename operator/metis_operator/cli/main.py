"""The command line: its parser, and how a command is run and ends."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, cast

from ..errors import MetisOperatorError
from . import ask, completion, doctor, logs, pause, plan, process, restart, resume, rotate, status
from .command import Command, Context, add_cluster_options, add_output_options
from .exits import MEANING, CommandError, Exit
from .terminal import Terminal

# Each a module as ``command.Command`` describes it, in the order of the help.
_MODULES = (status, doctor, logs, ask, plan, pause, resume, restart, rotate)
COMMANDS: tuple[Command, ...] = cast("tuple[Command, ...]", _MODULES)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code, one of ``Exit``."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["complete"]:
        return completion.complete(words[2:] if words[1:2] == ["--"] else words[1:])
    program = program_name(sys.argv[0])
    arguments = parse(build_parser(program), words)
    terminal = Terminal.of_process(no_color=getattr(arguments, "no_color", False))
    try:
        if hasattr(arguments, "process"):
            return int(arguments.process(arguments))
        return asyncio.run(_run(arguments.command, Context(arguments, terminal, program)))
    except CommandError as error:
        terminal.error(str(error))
        return error.exit_code
    except MetisOperatorError as error:
        terminal.error(str(error))
        return Exit.FAILED
    except BrokenPipeError:  # the reader has seen enough, and Python must not try once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except (KeyboardInterrupt, asyncio.CancelledError):
        return Exit.INTERRUPTED


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """The arguments of a call; words after an option may go on a list that began before it."""
    arguments, left = parser.parse_known_args(words)
    more = [word for word in left if not word.startswith("-")]
    if left and (more != left or not hasattr(arguments, "rest")):
        parser.error(f"unrecognized arguments: {' '.join(left)}")
    if left:
        setattr(arguments, arguments.rest, [*getattr(arguments, arguments.rest), *more])
    return arguments


def program_name(argv0: str) -> str:
    """How this program was called, as one would call it again."""
    name = Path(argv0).name
    if name in ("__main__.py", "-c", "-m"):
        return "python -m metis_operator"
    return name.replace("kubectl-", "kubectl ", 1)


class Parser(argparse.ArgumentParser):
    """One whose wrong calls end with a code of their own: 2 is for what a command found."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the call, and where to read on."""
        self.exit(Exit.USAGE, f"error: {message}. See: {self.prog} --help\n")


def build_parser(program: str) -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = Parser(
        prog=program,
        description="Look after the MetisRAGs of a cluster.",
        formatter_class=_Overview,
        epilog="Exit codes:\n" + "\n".join(f"  {e.value:<4} {MEANING[e]}" for e in Exit),
    )
    commands: argparse._SubParsersAction[argparse.ArgumentParser] = parser.add_subparsers(
        required=True, title="commands", metavar="COMMAND", parser_class=Parser
    )
    for command in COMMANDS:
        sub = commands.add_parser(
            command.NAME,
            help=command.SUMMARY,
            description=command.DESCRIPTION,
            epilog=_examples(command, program),
            formatter_class=_Formatter,
        )
        command.configure(sub)
        add_cluster_options(sub)
        add_output_options(sub)
        sub.set_defaults(command=command)
    completion.add(commands)
    process.add(commands)
    return parser


def _examples(command: Command, program: str) -> str:
    lines = (f"  # {what}\n  {program} {words}" for words, what in command.EXAMPLES)
    return "Examples:\n" + "\n\n".join(lines)


class _Overview(argparse.RawDescriptionHelpFormatter):
    """Each command on a line of its own."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=18)
        self._action_max_length = 16  # argparse forgets the indentation of commands


class _Formatter(argparse.HelpFormatter):
    """Wraps descriptions, and leaves examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("Examples:"):
            return "\n".join(indent + line for line in text.splitlines())
        return super()._fill_text(text, width, indent)


async def _run(command: Command, context: Context) -> int:
    """Carry out a command; a polite request to end is heeded like Ctrl-C."""
    task = asyncio.current_task()
    loop = asyncio.get_running_loop()
    if task is not None:
        for number in (signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, task.cancel)
    return await command.run(context)
