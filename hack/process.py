"""Running other programs: output into a log, a time limit, and no child left behind."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from hack.diagnose import advice
from hack.errors import CommandFailed, ToolMissing

Argument = str | Path
TAIL_LINES = 20
DEFAULT_LIMIT = 1800.0
"""Seconds after which a program is taken for hanging."""


class Log:
    """One step's log file, and what it is doing right now.

    ``doing`` is a few words for the progress display; a step sets it with :meth:`note`.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        self.path = path
        self.doing = ""

    def note(self, text: str) -> None:
        """Say what is being done now, on the display and in the log."""
        self.doing = text
        self.write(f"== {text}")

    def write(self, line: str) -> None:
        """Append a line to the log file."""
        with self.path.open("a") as file:
            file.write(line + "\n")

    def tail(self, lines: int = TAIL_LINES) -> str:
        """The last lines of the log file."""
        return last_lines(self.path, lines)

    def run(
        self,
        *args: Argument,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: bytes | Path | None = None,
        limit: float = DEFAULT_LIMIT,
        todo: str = "",
    ) -> None:
        """Run a program, its output going to the log.

        Args:
            args: program and arguments.
            env: variables beside those of this process.
            cwd: folder to run in.
            stdin: what it reads: bytes, or a file; nothing by default.
            limit: seconds until it is ended.
            todo: what to do when it fails and the log shows no known cause.

        Raises:
            CommandFailed: it ended with a non-zero status or passed the limit.
            ToolMissing: there is no such program.
        """
        self._run(args, env, cwd, stdin, limit, todo, capture=False)

    def output(
        self,
        *args: Argument,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        limit: float = 300.0,
        todo: str = "",
    ) -> str:
        """Like :meth:`run`, returning what the program wrote to standard output, stripped."""
        return self._run(args, env, cwd, None, limit, todo, capture=True)

    def _run(
        self,
        args: Sequence[Argument],
        env: Mapping[str, str] | None,
        cwd: Path | None,
        stdin: bytes | Path | None,
        limit: float,
        todo: str,
        *,
        capture: bool,
    ) -> str:
        line = shlex.join(map(str, args))
        self.write(f"$ {line}")
        with self.path.open("ab") as log, _source(stdin) as source:
            child = start(
                args, env=env, cwd=cwd, stdin=source, stdout=subprocess.PIPE if capture else log,
                stderr=log,
            )  # fmt: skip
            with ended(child):
                try:
                    out, _ = child.communicate(
                        stdin if isinstance(stdin, bytes) else None, timeout=limit
                    )
                except subprocess.TimeoutExpired:
                    raise CommandFailed(
                        f"`{short(line)}` did not finish within {limit:.0f} s",
                        advice(self.tail())
                        or todo
                        or "Run it again; the log shows how far it got.",
                        self.path,
                    ) from None
        if child.returncode != 0:
            raise CommandFailed(
                f"`{short(line)}` ended with status {child.returncode}",
                advice(self.tail()) or todo or "The log's last lines name the cause.",
                self.path,
            )
        return (out or b"").decode(errors="replace").strip()

    def pipe(self, source: Sequence[Argument], sink: Sequence[Argument]) -> None:
        """Run ``source | sink``.

        Raises:
            CommandFailed: either ended with a non-zero status.
        """
        line = f"{shlex.join(map(str, source))} | {shlex.join(map(str, sink))}"
        self.write(f"$ {line}")
        with self.path.open("ab") as log:
            first = start(source, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
            with ended(first):
                second = start(sink, stdin=first.stdout, stdout=log, stderr=log)
                with ended(second):
                    if first.stdout is not None:
                        first.stdout.close()
                    second.wait(DEFAULT_LIMIT)
                first.wait(60)
        if first.returncode or second.returncode:
            raise CommandFailed(
                f"`{short(line)}` ended with status {first.returncode or second.returncode}",
                advice(self.tail()) or "The log's last lines name the cause.",
                self.path,
            )


def last_lines(file: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a file; empty when there is none."""
    if not file.is_file():
        return ""
    with file.open("rb") as log:
        log.seek(max(0, file.stat().st_size - 16_384))
        text = log.read().decode(errors="replace")
    return "\n".join(text.replace("\r", "\n").rstrip().splitlines()[-lines:])


class _source:  # noqa: N801  (used like a function)
    """What a child reads: a pipe for bytes, a file, or nothing."""

    def __init__(self, stdin: bytes | Path | None) -> None:
        self._file: IO[bytes] | None = stdin.open("rb") if isinstance(stdin, Path) else None
        self._value = subprocess.PIPE if isinstance(stdin, bytes) else subprocess.DEVNULL

    def __enter__(self) -> int | IO[bytes]:
        return self._file or self._value

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()


class ended:  # noqa: N801  (used like a function)
    """Make sure that a child and its own children are gone when the block is left."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        if self._child.poll() is None:
            for sig, wait in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
                try:
                    os.killpg(self._child.pid, sig)
                    self._child.wait(wait)
                except (ProcessLookupError, subprocess.TimeoutExpired):
                    continue
                return


def start(
    args: Sequence[Argument],
    *,
    stdin: int | IO[bytes] | None,
    stdout: int | IO[bytes],
    stderr: int | IO[bytes],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own.

    Raises:
        ToolMissing: there is no such program.
    """
    try:
        return subprocess.Popen(
            [str(a) for a in args],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise ToolMissing(
            f"the program {error.filename} was not found", "Install it, then run this again."
        ) from error


def answer(
    *args: Argument, limit: float = 20.0, env: Mapping[str, str] | None = None
) -> str | None:
    """What a program prints, stripped; None when it fails, is missing or takes too long.

    For questions whose "no" is an answer: is it there, which version is it. ``limit`` in seconds.
    """
    try:
        done = subprocess.run(
            [str(a) for a in args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=limit,
            env={**os.environ, **(env or {})},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()


def short(line: str, width: int = 120) -> str:
    """A text on one line, cut to what fits a message."""
    line = " ".join(line.split())
    return line if len(line) <= width else line[: width - 1] + "…"
