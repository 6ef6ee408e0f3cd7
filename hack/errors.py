"""What can go wrong while a developer's machine is set up, in words a person can act on."""

from __future__ import annotations

from pathlib import Path


class HackError(Exception):
    """Base of all failures told to a person.

    Args:
        what: what happened, and to what.
        todo: what to do about it; one or more sentences.
        log: the file whose last lines show the cause, if there is one.
    """

    def __init__(self, what: str, todo: str, log: Path | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.todo = todo
        self.log = log


class CommandFailed(HackError):  # noqa: N818
    """A program ended with a non-zero status, or did not end in time."""


class ToolMissing(HackError):  # noqa: N818
    """A program that is needed is not installed and cannot be fetched here."""


class EngineUnavailable(HackError):  # noqa: N818
    """No Docker engine answers."""


class Unsupported(HackError):  # noqa: N818
    """This machine cannot do what was asked for."""


class ClusterUnavailable(HackError):  # noqa: N818
    """The kind cluster cannot be made, started or reached."""
