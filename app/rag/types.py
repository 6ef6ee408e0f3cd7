"""The plain values that the parts of the engine hand to one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

MemoryStatus = Literal["ok", "degraded", "off"]


@dataclass(frozen=True)
class Hit:
    """A chunk that the store found; ``similarity`` is the cosine, 1 is the same direction."""

    chunk_id: str
    document_id: str
    document_name: str
    page: int | None
    section: str | None
    text: str
    similarity: float


@dataclass(frozen=True)
class Source:
    """A chunk as the model sees it and the answer cites it: ``[number]``.

    ``score`` is the similarity plus ``boost``, what recent use of the document added.
    """

    number: int
    document_id: str
    document_name: str
    chunk_id: str
    page: int | None
    section: str | None
    text: str
    score: float
    boost: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The source as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: str
    content: str

    def as_dict(self) -> dict[str, str]:
        """The message as Ollama and our API write it."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True)
class Recollection:
    """What memory knew of the user when a question came in."""

    status: MemoryStatus
    history: Sequence[Turn] = ()
    preferences: Mapping[str, Any] = field(default_factory=dict)
    interactions: Sequence[Mapping[str, Any]] = ()

    def as_dict(self) -> dict[str, Any]:
        """What the API tells of it."""
        return {
            "status": self.status,
            "preferences": dict(self.preferences),
            "history": [turn.as_dict() for turn in self.history],
        }
