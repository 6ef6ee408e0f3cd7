"""Where a command's words go, and how they look there: colour and width, nothing else."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Mapping
from typing import TextIO

_STYLES = {
    "good": "32",
    "bad": "31",
    "warn": "33",
    "dim": "2",
    "strong": "1",
    "new": "36",
}
_WIDTH_OF_NO_TERMINAL = 100


class Terminal:
    """Standard output and standard error. Colour only where a person sees it and wants it."""

    def __init__(
        self, out: TextIO, err: TextIO, *, colour: bool = False, width: int = _WIDTH_OF_NO_TERMINAL
    ) -> None:
        self.out = out
        self.err = err
        self.colour = colour
        self.width = width

    @classmethod
    def of_process(
        cls, *, no_color: bool = False, env: Mapping[str, str] | None = None
    ) -> Terminal:
        """The terminal that this process writes to."""
        env = os.environ if env is None else env
        # https://no-color.org: set to anything but the empty string.
        plain = no_color or bool(env.get("NO_COLOR")) or env.get("TERM") == "dumb"
        interactive = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if interactive else _WIDTH_OF_NO_TERMINAL
        return cls(sys.stdout, sys.stderr, colour=interactive and not plain, width=max(40, width))

    @property
    def unicode(self) -> bool:
        """Whether signs beyond ASCII can be written."""
        return "utf" in (getattr(self.out, "encoding", None) or "utf-8").lower()

    @property
    def interactive(self) -> bool:
        """Whether a person looks at standard output as it comes."""
        return self.out.isatty()

    def style(self, text: str, *names: str) -> str:
        """``text`` in the styles of those names, where there is colour."""
        if not self.colour or not names or not text:
            return text
        return f"\x1b[{';'.join(_STYLES[n] for n in names)}m{text}\x1b[0m"

    def print(self, text: str = "", *, end: str = "\n") -> None:
        """Write to standard output."""
        self.out.write(text + end)
        self.out.flush()

    def note(self, text: str) -> None:
        """Write a line to standard error, so that it is no part of the output."""
        self.err.write(text + "\n")
        self.err.flush()

    def error(self, text: str) -> None:
        """Write an error, one line, to standard error."""
        colour = self.colour and self.err.isatty()
        head = f"\x1b[{_STYLES['bad']}merror:\x1b[0m" if colour else "error:"
        self.note(f"{head} {printable(' '.join(text.split()))}")


def printable(text: str) -> str:
    """``text`` without control characters, so that nothing in a cluster steers a terminal."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")
