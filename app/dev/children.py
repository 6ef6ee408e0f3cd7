"""Programs that end with us: on request, on failure, and when this process is killed."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from app.errors import LocalRunError

POLL_SECONDS = 0.03
TAIL_LINES = 15
STOP_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def end_with_parent(farewell: signal.Signals, parent: int) -> None:
    """Have the kernel send us ``farewell`` when the process ``parent``, which is ours, dies.

    Linux only, and the parent's thread that started us counts: start children from the main one.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(farewell))
        if os.getppid() != parent:  # it died before the kernel knew
            os.kill(os.getpid(), farewell)


def remove(folder: Path) -> None:
    """Delete a folder, although a program that was cut off at its start may still write to it."""
    deadline = time.monotonic() + STOP_SECONDS
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(POLL_SECONDS)


class Child:
    """A running program; what it writes goes to the file ``log``."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str | Path],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        farewell: signal.Signals = signal.SIGTERM,
        user: str | None = None,
    ) -> None:
        """Start it, apart from the terminal's Ctrl-C, which is for us to pass on.

        Args:
            name: for messages.
            arguments: the program and its arguments.
            environment: variables on top of ours.
            farewell: the signal that asks it to end.
            user: whom to run it as, where we are root.
        """
        self.name = name
        self.log = log
        self._farewell = farewell
        parent = os.getpid()
        with log.open("ab") as sink:
            self.popen = subprocess.Popen(
                [str(argument) for argument in arguments],
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,  # closed with us: a second way to notice our end
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
                extra_groups=[] if user else None,
                preexec_fn=lambda: end_with_parent(farewell, parent),
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.popen.pid

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self.popen.poll()

    def send(self, sent: signal.Signals) -> None:
        """Send it a signal; nothing happens when it is gone."""
        self.popen.send_signal(sent)

    def stop(self, how: signal.Signals | None = None, limit: float = STOP_SECONDS) -> None:
        """Ask it to end (with ``how``), and kill it after ``limit`` seconds."""
        self.send(how or self._farewell)
        try:
            self.popen.wait(limit)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        finally:
            if self.popen.stdin is not None:
                self.popen.stdin.close()

    def wait_until(self, condition: Callable[[], object], limit: float, what: str) -> None:
        """Return once ``condition`` is true.

        Raises LocalRunError when the program ends first, or after ``limit`` seconds.
        """
        deadline = time.monotonic() + limit
        while not condition():
            if self.status is not None:
                raise LocalRunError(f"{self.name} ended with status {self.status}{self.tail()}")
            if time.monotonic() > deadline:
                raise LocalRunError(f"{self.name}: {what} took over {limit:.0f} s{self.tail()}")
            time.sleep(POLL_SECONDS)

    def finish(self, limit: float) -> None:
        """Wait for its good end; raises LocalRunError for any other."""
        self.wait_until(lambda: self.status == 0, limit, "its work")
        self.stop()

    def tail(self) -> str:
        """The last lines of its log, to follow a message."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        shown = "".join(f"\n  | {line}" for line in lines)
        return f"; the last lines of {self.log}:{shown}" if shown else ""
