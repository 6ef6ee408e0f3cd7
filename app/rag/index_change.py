"""What a change of the embedding model means for the index of the documents. Pure.

The vectors of two models cannot be compared, so an index has vectors of one model only, and
questions are embedded with the model of the index that answers, whatever the settings ask for.
Replicas of two configurations run side by side while a roll-out lasts: a replica replaces only an
index that was made before it started, so the older configuration never undoes the newer one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True)
class Model:
    """An embedding model: its name as the server lists it, and what identifies its weights.

    ``digest`` is None where the server tells none, ``dimensions`` while nobody has asked it.
    """

    name: str
    digest: str | None = None
    dimensions: int | None = None


@dataclass(frozen=True)
class Index:
    """An index: its vectors are in the table of its ``id``."""

    id: int
    model: Model
    state: Literal["active", "building", "retired"]
    created_at: datetime
    done: int = 0
    total: int = 0
    rate: float = 0.0
    trouble: str | None = None

    @property
    def dimensions(self) -> int:
        """Numbers in each vector."""
        assert self.model.dimensions is not None  # noqa: S101 - the table says so
        return self.model.dimensions

    @property
    def eta(self) -> float | None:
        """Seconds that are left at the present rate, when there is one."""
        return max(self.total - self.done, 0) / self.rate if self.rate > 0 else None


@dataclass(frozen=True)
class Live:
    """The index that answers, if there are documents, and the one that is being built."""

    active: Index | None = None
    building: Index | None = None


@dataclass(frozen=True)
class Settled:
    """Nothing is to be done; ``note`` is for whoever looks after the instance."""

    note: str = ""


@dataclass(frozen=True)
class Refused:
    """The change is not carried out; ``message`` says why and what to do."""

    message: str


@dataclass(frozen=True)
class Begin:
    """Begin an index of the wanted model."""


@dataclass(frozen=True)
class GoOn:
    """Go on with the index that is being built."""

    index: Index


@dataclass(frozen=True)
class Abandon:
    """Drop the index that is being built: nobody wants it any more."""

    index: Index


Step = Settled | Refused | Begin | GoOn | Abandon


def decide(live: Live, wanted: Model, *, reindex: bool, started: datetime) -> Step:
    """What a replica that ``started`` then, and whose settings want ``wanted``, has to do."""
    active, building = live.active, live.building
    if active is None:
        return Settled()
    if building is not None:
        if reindex and not differs(building.model, wanted) and differs(active.model, wanted):
            return GoOn(building)
        # Begun by whoever has a newer configuration than this replica, or by an older one.
        return Abandon(building) if building.created_at < started else Settled()
    if not differs(active.model, wanted):
        return Settled()
    if not reindex:
        if same_name_and_length(active.model, wanted):
            return Settled(
                f"the weights of {wanted.name} have changed under its name since the documents "
                "were indexed; to have them embedded anew, set models.reindex to true"
            )
        return Refused(refusal(active.model, wanted))
    return Begin() if active.created_at < started else Settled()


def differs(indexed: Model, wanted: Model) -> bool:
    """Whether vectors of the two cannot be compared, as far as it is known."""
    if not same_name_and_length(indexed, wanted):
        return True
    return None not in (indexed.digest, wanted.digest) and indexed.digest != wanted.digest


def same_name_and_length(indexed: Model, wanted: Model) -> bool:
    """Whether name and length of the vectors agree, as far as they are known."""
    lengths = {indexed.dimensions, wanted.dimensions} - {None}
    return indexed.name == wanted.name and len(lengths) <= 1


def refusal(indexed: Model, wanted: Model) -> str:
    """What to say of a change that nobody asked to carry out."""
    if indexed.name == wanted.name:
        return (
            f"the documents are indexed with vectors of {indexed.dimensions} numbers, and "
            f"{wanted.name} makes vectors of {wanted.dimensions} now. To embed all documents anew, "
            "set models.reindex to true (REINDEX=true outside the chart); or bring the former "
            "model back"
        )
    return (
        f"the documents are indexed with {indexed.name}, and the settings ask for {wanted.name}. "
        "To embed all documents anew, set models.reindex to true (REINDEX=true outside the "
        f"chart); or set models.embedding (DEFAULT_EMBEDDING_MODEL) back to {indexed.name}"
    )


def wrong_length(index: Index, length: int) -> str:
    """What to say when the model of an index does not fit it any more."""
    return refusal(index.model, Model(index.model.name, None, length))
