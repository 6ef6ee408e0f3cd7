"""How far a pull is, from the lines that Ollama streams. Pure: lines and times go in.

A line is a JSON object. ``pulling DIGEST`` lines carry the total of one layer, known when the
layer begins, and ``completed``, absent at 0; a part that has to be fetched again takes it back.
A failure is a line with ``error``; nothing but a line ``success`` is the end.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

WINDOW = 10.0
"""Seconds over which the rate is taken."""


class State(enum.StrEnum):
    """How a model is, on one server or on all."""

    WAITING = "Waiting"
    PULLING = "Pulling"
    VERIFYING = "Verifying"
    FAILED = "Failed"
    READY = "Ready"


@dataclass(frozen=True)
class Progress:
    """How far a model is. Bytes, bytes a second, seconds; None where it is not known."""

    state: State
    message: str = ""
    completed: int = 0
    total: int = 0
    bytes_per_second: int | None = None
    eta_seconds: int | None = None

    @property
    def percent(self) -> int:
        """0 to 100; 100 only when the model can be used."""
        if self.state is State.READY:
            return 100
        return min(99, 100 * self.completed // self.total) if self.total else 0

    def as_dict(self) -> dict[str, Any]:
        """As JSON, in the names of a MetisRAG's status."""
        found = asdict(self)
        return {
            "state": self.state.value,
            "message": self.message,
            "percent": self.percent,
            "completed": self.completed,
            "total": self.total,
            "bytesPerSecond": found["bytes_per_second"],
            "etaSeconds": found["eta_seconds"],
        }


class Stream:
    """What the lines of one pull have told so far."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}
        # Bytes that arrived since the first line, at times; what was there before counts not.
        self._moved = 0
        self._samples: deque[tuple[float, int]] = deque()
        self._status = ""
        self.error = ""
        self.succeeded = False

    @property
    def total(self) -> int:
        """Bytes of the layers that have begun."""
        return sum(total for total, _ in self._layers.values())

    @property
    def completed(self) -> int:
        """Bytes of them that are there."""
        return sum(done for _, done in self._layers.values())

    @property
    def moved(self) -> int:
        """Bytes that arrived by this stream."""
        return self._moved

    def take(self, line: Mapping[str, Any], now: float) -> None:
        """Note one line, read at the time ``now`` (seconds, never going back)."""
        if line.get("error"):
            self.error = str(line["error"])
            return
        self._status = str(line.get("status") or self._status)
        self.succeeded = self._status == "success"
        digest, total = line.get("digest"), line.get("total")
        if digest and isinstance(total, int) and total > 0:
            done = line.get("completed") or 0
            self._layer(str(digest), total, max(0, min(int(done), total)), now)

    def progress(self, now: float) -> Progress:
        """How far it is at the time ``now``."""
        verifying = self._status.startswith(("verifying", "writing", "removing", "success"))
        rate = self._rate(now)
        left = self.total - self.completed
        return Progress(
            State.VERIFYING if verifying else State.PULLING,
            message=self._status if verifying else "",
            completed=self.completed,
            total=self.total,
            bytes_per_second=None if verifying else rate,
            eta_seconds=None if verifying or not rate else -(-left // rate),
        )

    def _layer(self, digest: str, total: int, done: int, now: float) -> None:
        known = self._layers.get(digest)
        self._layers[digest] = (total, done)
        if known is not None:
            self._moved += max(0, done - known[1])
        self._samples.append((now, self._moved))
        # One older than the window stays: the rate is taken from there.
        while len(self._samples) > 1 and self._samples[1][0] <= now - WINDOW:
            self._samples.popleft()

    def _rate(self, now: float) -> int | None:
        """Bytes a second over the last seconds; None while there is nothing to tell it from."""
        if not self._samples:
            return None
        begun, before = self._samples[0]
        for at, moved in self._samples:
            if at <= now - WINDOW:
                begun, before = now - WINDOW, moved
        return int((self._moved - before) / (now - begun)) if now - begun >= 1.0 else None


def together(found: Sequence[Progress]) -> Progress:
    """How a model is on all of its servers: the worst state speaks, the bytes are summed."""
    if not found:
        return Progress(State.WAITING, "no model server answers yet")
    if all(p.state is State.READY for p in found):
        return Progress(State.READY)
    order = (State.FAILED, State.PULLING, State.VERIFYING, State.WAITING)
    state = next(s for s in order if any(p.state is s for p in found))
    speaks = next(p for p in found if p.state is state)
    ready = sum(p.state is State.READY for p in found)
    message = speaks.message
    if len(found) > 1:
        message = f"{ready} of {len(found)} servers have it{': ' if message else ''}{message}"
    known = [p for p in found if p.total]
    # A server that has it counts with as much as the others have to fetch.
    size = max((p.total for p in known), default=0)
    total = sum(p.total for p in known) + size * sum(p.state is State.READY for p in found)
    completed = total - sum(p.total - p.completed for p in known)
    etas = [p.eta_seconds for p in found if p.eta_seconds is not None]
    rates = [p.bytes_per_second for p in found if p.bytes_per_second is not None]
    return Progress(
        state,
        message,
        completed=completed,
        total=total,
        bytes_per_second=sum(rates) if rates else None,
        eta_seconds=max(etas) if etas and state is State.PULLING else None,
    )


def size(count: float) -> str:
    """Bytes for a person: 8.1 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit in ("B", "kB") else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def lasting(seconds: int) -> str:
    """Seconds for a person: 45 s, 3 min, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds} s"
    minutes = -(-seconds // 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def line_of(progress: Progress) -> str:
    """One line for a log."""
    said = [str(progress.state).lower()]
    if progress.total and progress.state is not State.READY:
        said.append(f"{progress.percent} % of {size(progress.total)}")
    if progress.bytes_per_second is not None:
        said.append(f"{size(progress.bytes_per_second)}/s")
    if progress.eta_seconds is not None:
        said.append(f"{lasting(progress.eta_seconds)} left")
    if progress.message:
        said.append(progress.message)
    return ", ".join(said)
