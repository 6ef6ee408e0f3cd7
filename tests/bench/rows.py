"""A row: what we measured, what a peer measured, and whether the goal is met. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

Better = Literal["higher", "lower"]
Rule = Literal["at least", "at most"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report.

    ``ratio`` answers ``goal``. Under the rule "at least" it says how many times better we are
    than the peer (2.0 is twice the rate, or half the time). Under "at most" it is ours divided by
    the peer's, so 1.1 is a tenth more. ``None`` stands for a division by zero. ``floor`` is the
    worst ratio that is no failure, where there is one.
    """

    row: str
    unit: str
    ours: float
    peer_name: str
    peer: float
    ratio: float | None
    rule: Rule
    goal: float
    floor: float | None
    met: bool
    note: str = ""

    @property
    def failed(self) -> bool:
        """Whether it is worse than its floor allows."""
        if self.floor is None or self.met:
            return False
        if self.ratio is None:
            return True
        return self.ratio < self.floor if self.rule == "at least" else self.ratio > self.floor

    def as_dict(self) -> dict[str, Any]:
        """The row for JSON."""
        return asdict(self)


def compare(
    *,
    row: str,
    unit: str,
    ours: Sequence[float],
    peer_name: str,
    peer: Sequence[float],
    better: Better,
    goal: float | None = None,
    at_most: float | None = None,
    floor: float | None = None,
    note: str = "",
    reason: str = "",
) -> Row:
    """A row from samples of both sides; their medians count.

    Args:
        better: whether a higher or a lower figure is the better one.
        goal: how many times better than the peer we want to be, at least: 5.0 with ``higher`` is
            five times the peer's rate, with ``lower`` a fifth of its time; 0.8 allows a little
            less than the peer.
        at_most: instead of ``goal``: ours divided by the peer's may not exceed it.
        floor: the ratio beyond which the run fails; without it a missed goal is reported only.
        note: what to know about the comparison, in a sentence.
        reason: why the goal is missed, as profiling found; left out where it is met.

    Raises:
        ValueError: not exactly one of ``goal`` and ``at_most``, or no samples.
    """
    if (goal is None) == (at_most is None):
        raise ValueError(f"{row}: give either goal or at_most")
    if not ours or not peer:
        raise ValueError(f"{row}: no samples")
    mine, theirs = float(median(ours)), float(median(peer))
    if at_most is not None:
        rule: Rule = "at most"
        limit, ratio = at_most, _quotient(mine, theirs)
        met = mine <= at_most * theirs
    else:
        rule, limit = "at least", goal or 0.0
        better_by = (mine, theirs) if better == "higher" else (theirs, mine)
        ratio = _quotient(*better_by)
        met = better_by[0] >= limit * better_by[1]
    said = "; ".join(part for part in (note, "" if met else reason) if part)
    return Row(row, unit, mine, peer_name, theirs, ratio, rule, limit, floor, met, said)


def bound(
    *, row: str, unit: str, ours: Sequence[float], limit: float, better: Better, note: str = ""
) -> Row:
    """A row without a peer: our figure against a fixed limit, say 250 MiB, or 0 needless writes."""
    direction: dict[str, Any] = {"goal": 1.0} if better == "higher" else {"at_most": 1.0}
    return compare(
        row=row,
        unit=unit,
        ours=ours,
        peer_name="the limit",
        peer=[limit],
        better=better,
        note=note,
        **direction,
    )


def percentile(samples: Sequence[float], percent: float) -> float:
    """The value that ``percent`` of the samples do not exceed (nearest rank)."""
    ordered = sorted(samples)
    if not ordered:
        raise ValueError("no samples")
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def _quotient(above: float, below: float) -> float | None:
    return above / below if below else None
