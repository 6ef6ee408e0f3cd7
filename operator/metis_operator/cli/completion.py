"""Completion of the command line, for bash, zsh and fish, and for kubectl's own.

All of them call this program with the words so far and get back candidates, one a line: so
they know the same, the names of MetisRAGs and namespaces in the cluster included.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..errors import MetisOperatorError
from .exits import Exit

if TYPE_CHECKING:
    from .reach import Session

_LIMIT = 3.0
_NO_FILES = ":4"
_FILES = ":0"

SCRIPTS = {
    "bash": """_metis_complete() {
    local IFS=$'\\n' reply
    reply=$("{words}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    COMPREPLY=($(printf '%s\\n' "$reply" | sed -e '/^:/d' -e 's/\\t.*//'))
    [[ ${reply##*$'\\n'} == :4 ]] || compopt -o default
}
complete -F _metis_complete {words}
""",
    "zsh": """#compdef {words}
_metis_complete() {
    local -a found
    local line reply
    reply=$("{words}" complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
    for line in "${(@f)reply}"; do
        [[ $line == :* ]] || found+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}")
    done
    _describe '{words}' found
    [[ ${reply##*$'\\n'} == :4 ]] || _files
}
compdef _metis_complete {words}
""",
    "fish": """function __metis_complete
    set -l words (commandline -opc) (commandline -ct)
    {words} complete -- $words[2..-1] 2>/dev/null | string match -v ':*'
end
complete -c {words} -f -a '(__metis_complete)'
""",
}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command that prints a shell's script, and the one that the scripts call."""
    script = commands.add_parser(
        "completion",
        help="print the completion script of a shell",
        description="Print the completion script of a shell, for the command `metis`. For "
        "`kubectl metis` there is nothing to do: kubectl finds kubectl_complete-metis by itself.",
        epilog="Examples:\n"
        "  # bash, in ~/.bashrc\n  source <(metis completion bash)\n\n"
        "  # zsh, in ~/.zshrc, after compinit\n  source <(metis completion zsh)\n\n"
        "  # fish\n  metis completion fish >~/.config/fish/completions/metis.fish",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    script.add_argument("shell", choices=tuple(SCRIPTS), help="which shell")
    script.set_defaults(process=print_script)


def print_script(arguments: argparse.Namespace) -> int:
    """Print the script."""
    print(SCRIPTS[arguments.shell].replace("{words}", "metis"), end="")
    return Exit.OK


def main() -> int:
    """``kubectl_complete-metis``: what kubectl calls with the words after ``kubectl metis``."""
    return complete(sys.argv[1:])


def complete(words: Sequence[str]) -> int:
    """Print the candidates for the last of ``words``, then how to go on (as kubectl asks)."""
    from .main import build_parser

    found, files = candidates(build_parser("metis"), words)
    for name, text in found:
        print(f"{name}\t{text}" if text else name)
    print(_FILES if files else _NO_FILES)
    return Exit.OK


def candidates(
    parser: argparse.ArgumentParser, words: Sequence[str]
) -> tuple[list[tuple[str, str]], bool]:
    """What the last word may become, each with a text about it; and whether it may be a file."""
    *done, current = words or [""]
    commands = _commands(parser)
    command = next((w for w in done if w in commands), None)
    if command is None:
        helps = {a.dest: a.help or "" for a in _listed(parser)}
        return [(n, helps.get(n, "")) for n in commands if n.startswith(current)], False
    here = commands[command]
    options = {o: a for a in here._actions for o in a.option_strings}
    if done and done[-1] in options and options[done[-1]].nargs != 0:
        return _values(options[done[-1]], done[:-1], current)
    if current.startswith("-"):
        return [
            (o, a.help or "") for o, a in options.items() if o.startswith(current) and o[:2] == "--"
        ], False
    after = done[done.index(command) + 1 :]
    return _positional(here, after, done, current)


def _values(
    option: argparse.Action, words: Sequence[str], current: str
) -> tuple[list[tuple[str, str]], bool]:
    if option.choices:
        return _starting(map(str, option.choices), current), False
    if option.metavar == "FILE":
        return [], True
    if option.metavar in ("NAMESPACE", "NAME", "CONTEXT"):
        return _starting(_of_cluster(words, str(option.metavar)), current), False
    return [], False


def _positional(
    parser: argparse.ArgumentParser, after: Sequence[str], words: Sequence[str], current: str
) -> tuple[list[tuple[str, str]], bool]:
    from .instances import COMPONENTS

    places = {a.dest: a for a in parser._actions if not a.option_strings}
    if "shell" in places:
        return _starting(map(str, places["shell"].choices or ()), current), False
    if "name" not in places:
        return [], False
    given = [w for w in after if not w.startswith("-")]
    names = [] if given else _of_cluster(words, "NAME")
    parts = COMPONENTS if "components" in places else ()
    return _starting([*names, *(p for p in parts if p not in given)], current), False


def _starting(names: Iterable[str], current: str) -> list[tuple[str, str]]:
    return [(n, "") for n in names if n.startswith(current)]


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _listed(parser: argparse.ArgumentParser) -> Iterable[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action._choices_actions
    return ()


def _of_cluster(words: Sequence[str], what: str) -> list[str]:
    """Names from the cluster; none when it does not answer at once: this is a keystroke."""
    from .reach import connect, contexts

    async def ask() -> list[str]:
        async with asyncio.timeout(_LIMIT):
            if what == "CONTEXT":
                return await contexts(arguments)
            async with connect(arguments) as session:
                return await _names(session, what)

    try:
        arguments, _ = _where().parse_known_args(words)
        return asyncio.run(ask())
    except (MetisOperatorError, TimeoutError, argparse.ArgumentError, SystemExit):
        return []


async def _names(session: Session, what: str) -> list[str]:
    from ..core.objects import METISRAG, Kind

    if what == "NAMESPACE":
        found = await session.rest.items(Kind("", "v1", "Namespace", "namespaces"))
    else:
        found = await session.rest.items(METISRAG, session.namespace)
    return sorted(o["metadata"]["name"] for o in found)


def _where() -> argparse.ArgumentParser:
    from .command import add_cluster_options

    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    add_cluster_options(parser)
    return parser
