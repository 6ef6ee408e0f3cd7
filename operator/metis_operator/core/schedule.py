"""When a rotation is due: an interval, spread a little, kept to certain hours of the day (UTC)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DAY = 86400.0
# A rotation comes up to this part of its interval early, so that many do not come at once.
SPREAD = 0.1


@dataclass(frozen=True)
class Rules:
    """How one credential is rotated."""

    interval: float = 0.0
    """Seconds between rotations; 0 for never."""
    window: tuple[int, int] | None = None
    """First hour, and the hour after the last one, of the day in UTC."""
    seed: str = ""
    """What decides how early this object is; always the same for the same object."""

    @classmethod
    def of(cls, values: Mapping[str, Any] | None, seed: str) -> Rules:
        """From ``rotation.COMPONENT`` of the values, which the schema has checked."""
        values = values or {}
        window = str(values.get("window") or "")
        first, _, last = window.partition("-")
        return cls(
            interval=seconds(str(values.get("interval") or "0")),
            window=(int(first), int(last)) if window else None,
            seed=seed,
        )


def seconds(text: str) -> float:
    """A duration such as ``30d``, ``12h30m`` or ``0`` in seconds."""
    return float(sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+)([dhms])", text)))


def next_time(last: float, rules: Rules, now: float) -> float | None:
    """When the next rotation is due, given the last; not later than ``now`` when it is.

    One that is due waits for the window. None without an interval.
    """
    if rules.interval <= 0:
        return None
    digest = hashlib.sha256(rules.seed.encode()).digest()
    early = SPREAD * rules.interval * int.from_bytes(digest[:8], "big") / 2**64
    due = last + rules.interval - early
    if rules.window is None:
        return due
    earliest = max(due, now)
    opening = _into_window(earliest, rules.window)
    return due if opening == earliest else opening


def _into_window(moment: float, window: tuple[int, int]) -> float:
    """``moment``, or the next opening of the window when it is shut then."""
    first, last = window
    day = moment - moment % _DAY
    hour = (moment - day) / 3600
    # A window may go over midnight; equal hours leave it open all day.
    is_open = first <= hour < last if first < last else hour >= first or hour < last
    if is_open or first == last:
        return moment
    opening = day + first * 3600
    return opening if opening >= moment else opening + _DAY
