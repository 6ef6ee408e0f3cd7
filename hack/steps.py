"""Progress of long work: which step runs, of how many, for how long, and what failed."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TextIO

from hack.cache import LOGS
from hack.diagnose import advice
from hack.errors import HackError
from hack.process import Log, last_lines, short

HEARTBEAT = 20.0
"""Seconds between signs of life where the output is no terminal."""
QUIET = 1.0
"""A step that is done sooner prints one line only."""


@dataclass(frozen=True)
class Step:
    """One step of a longer piece of work.

    Attributes:
        title: what it does, in the imperative: "Build the node image".
        component: the part that is broken when it fails: "node image".
        act: does it, and returns the outcome in a few words: "already there".
    """

    title: str
    component: str
    act: Callable[[Log], str]


def span(seconds: float) -> str:
    """A duration for people: ``0.4 s``, ``14 s``, ``2 min 05 s``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


class Display:
    """Writes progress lines: rewritten in place on a terminal, appended elsewhere."""

    def __init__(self, stream: TextIO, total: int, *, live: bool | None = None) -> None:
        self._stream = stream
        self._total = total
        self._live = stream.isatty() if live is None else live
        self._lock = threading.Lock()
        self._announced = False

    def running(self, number: int, step: Step, seconds: float, doing: str) -> None:
        """Show that a step is at work."""
        head = self._head(number, step)
        with self._lock:
            if self._live:
                line = f"{head} … {span(seconds)}" + (f" · {doing}" if doing else "")
                self._stream.write(f"\r\x1b[2K{line[:150]}")
            elif not self._announced:
                self._announced = True
                self._stream.write(f"{head} …\n")
            else:
                detail = f": {short(doing, 160)}" if doing else ""
                self._stream.write(f"           still at it after {span(seconds)}{detail}\n")
            self._stream.flush()

    def done(self, number: int, step: Step, seconds: float, outcome: str) -> None:
        """Show that a step is done."""
        self._end(f"{self._head(number, step)}: {outcome} ({span(seconds)})\n")

    def failed(self, number: int, step: Step, seconds: float, error: HackError, log: Log) -> None:
        """Show what failed, in which component, what to do, and the log's last lines."""
        path = error.log or log.path
        tail = last_lines(path)
        lines = [
            f"{self._head(number, step)}: FAILED ({span(seconds)})",
            f"  component   {step.component}",
            f"  what        {error.what}",
            f"  what to do  {error.todo}",
        ]
        if tail.strip():
            lines.append(f"  the last lines of {path}:")
            lines += [f"    | {line}" for line in tail.splitlines()]
        self._end("\n".join(lines) + "\n")

    def _head(self, number: int, step: Step) -> str:
        return f"step {number:>2}/{self._total} {step.title}"

    def _end(self, text: str) -> None:
        with self._lock:
            self._stream.write(f"\r\x1b[2K{text}" if self._live else text)
            self._stream.flush()
            self._announced = False


def run(name: str, steps: Sequence[Step], stream: TextIO | None = None) -> None:
    """Run the steps in order, showing progress on ``stream`` (standard output by default).

    Each step logs to ``~/.cache/metis-rag/logs/<name>-<number>.log``.

    Raises:
        StepFailed: a step failed; everything to say about it has been shown.
    """
    display = Display(stream or sys.stdout, len(steps))
    begin = time.monotonic()
    for number, step in enumerate(steps, 1):
        _one(display, number, step, Log(LOGS / f"{name}-{number:02d}.log"))
    print(f"done in {span(time.monotonic() - begin)}", file=stream or sys.stdout, flush=True)


class StepFailed(Exception):  # noqa: N818
    """A step failed and said so already."""


def _one(display: Display, number: int, step: Step, log: Log) -> None:
    begin = time.monotonic()
    over = threading.Event()

    def beat() -> None:
        pause = QUIET
        while not over.wait(pause):
            display.running(number, step, time.monotonic() - begin, log.doing)
            pause = 1.0 if display._live else HEARTBEAT

    heart = threading.Thread(target=beat, daemon=True)
    heart.start()
    failure: HackError | None = None
    outcome = ""
    try:
        outcome = step.act(log)
    except HackError as error:
        failure = error
    except OSError as error:
        todo = advice(str(error)) or "Check the disk and the permissions, then run it again."
        failure = HackError(str(error), todo)
    except Exception as error:  # noqa: BLE001  (a defect of ours: still no stack trace for a newcomer)
        log.write(traceback.format_exc())
        failure = HackError(
            f"unexpected {type(error).__name__}: {error}",
            "This is a defect of the set-up itself: please report it with the log.",
        )
    finally:
        over.set()
        heart.join()
    if failure:
        display.failed(number, step, time.monotonic() - begin, failure, log)
        raise StepFailed
    display.done(number, step, time.monotonic() - begin, outcome or "done")
