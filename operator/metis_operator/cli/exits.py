"""How a command ends: its exit codes, and the error that carries one."""

from __future__ import annotations

from enum import IntEnum

from ..errors import MetisOperatorError


class Exit(IntEnum):
    """Exit codes, one for each thing that a person or a script would do something else about."""

    OK = 0
    FAILED = 1
    ATTENTION = 2
    UNREACHABLE = 3
    ABSENT = 4
    FORBIDDEN = 5
    USAGE = 64
    INTERRUPTED = 130


MEANING = {
    Exit.OK: "done, and all is well",
    Exit.FAILED: "the command failed",
    Exit.ATTENTION: "done, and there is something to look at: `plan` found changes, `status` and "
    "`doctor` found trouble",
    Exit.UNREACHABLE: "no cluster answers, or none is configured",
    Exit.ABSENT: "there is no such MetisRAG, or the cluster does not know MetisRAGs",
    Exit.FORBIDDEN: "your user may not do that, or is not known to the cluster",
    Exit.USAGE: "the command was called wrongly",
    Exit.INTERRUPTED: "interrupted",
}


class CommandError(MetisOperatorError):
    """A command cannot go on: what is wrong, what to do about it, and how to end."""

    def __init__(self, what: str, cure: str, exit_code: Exit = Exit.FAILED) -> None:
        super().__init__(f"{what} {cure}".strip())
        self.exit_code = exit_code
