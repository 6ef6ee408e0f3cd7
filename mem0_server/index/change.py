"""A change of the embedding model: what is said of it, and how far it is.

It imports nothing of ours, as each start needs it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mem0_server.store.collections import Collection

COUNT_SECONDS = 1.0


@dataclass(slots=True)
class Building:
    """A collection that is being filled, and how far it is."""

    collection: Collection
    total: int = 0
    left: int = 0
    _left_at_first: int = 0
    _begun: float | None = None
    _counted: float = 0.0

    def is_to_be_counted(self) -> bool:
        """Whether the last count was a while ago."""
        return self._begun is None or time.monotonic() - self._counted >= COUNT_SECONDS

    def count(self, total: int, left: int) -> None:
        """Of ``total`` records, so many are ``left``."""
        self.total, self.left, self._counted = total, left, time.monotonic()
        if self._begun is None:
            self._left_at_first, self._begun = left, self._counted

    def told(self) -> dict[str, Any] | None:
        """For the status: done, total, records a second, seconds left; None before a count."""
        if self._begun is None:
            return None
        done = max(self.total - self.left, 0)
        rate = (self._left_at_first - self.left) / max(time.monotonic() - self._begun, 0.001)
        return {
            "model": self.collection.model,
            "dimensions": self.collection.dimensions,
            "done": done,
            "total": self.total,
            "percent": 100 * done // self.total if self.total else 100,
            "rate": round(max(rate, 0.0), 2),
            "eta_seconds": round(self.left / rate) if rate > 0 else None,
        }


def same_model(one: str, other: str) -> bool:
    """Whether two names are the same model's; ``:latest`` stands where no tag does."""
    return one.removesuffix(":latest") == other.removesuffix(":latest")


def refusal(indexed: str, wanted: str) -> str:
    """What to say of another embedding model that nobody asked to go over to."""
    return (
        f"the memories are indexed with {indexed}, and the settings ask for {wanted}. To embed all "
        "of them anew, set models.reindex to true (REINDEX=true outside the chart); or set "
        f"models.embedding (EMBEDDING_MODEL) back to {indexed}"
    )


def misfit(model: str, dimensions: int, indexed: int) -> str:
    """What to say of a model whose vectors have another length than those of its index."""
    return (
        f"{model} makes vectors of length {dimensions} now, and the memories are indexed with "
        f"vectors of length {indexed}. To embed all of them anew, set models.reindex to true "
        "(REINDEX=true outside the chart); or bring the former weights back"
    )
