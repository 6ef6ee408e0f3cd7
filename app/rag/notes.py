"""What memory is to learn, as plain values: a note on its way, and a row of the outbox. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID, uuid4

Kind = Literal["message", "preferences", "interaction", "forget"]
PREFERENCES = "user_preferences"
INTERACTIONS = "document_interaction"


@dataclass(frozen=True)
class Note:
    """Something that memory is to learn of a human; ``key`` is its idempotency key everywhere."""

    kind: Kind
    body: Mapping[str, Any]
    key: UUID = field(default_factory=uuid4)

    def as_dict(self) -> dict[str, Any]:
        """The note as JSON."""
        return {"key": str(self.key), "kind": self.kind, "body": self.body}


@dataclass(frozen=True)
class Row:
    """A note in the outbox: it waits there, or was delivered some seconds ago."""

    id: int
    key: str
    kind: Kind
    body: dict[str, Any]
    created_at: str
    waiting: bool


def message_note(role: str, content: str, message_id: UUID | None = None) -> Note:
    """A message; its id, where it has one, is the key under which Mem0 gets it."""
    return Note("message", {"role": role, "content": content}, message_id or uuid4())


def interaction_note(document_id: str, interaction_type: str, data: Mapping[str, Any]) -> Note:
    """What the user did with a document."""
    body = {"document_id": document_id, "interaction_type": interaction_type, "data": dict(data)}
    return Note("interaction", body)


def arguments(agent_id: str, human_id: str, kind: Kind, body: Mapping[str, Any]) -> dict[str, Any]:
    """How the memory client is called with a note: for a message, or for an archival record."""
    both = {"agent_id": agent_id, "human_id": human_id}
    if kind == "message":
        return both | {"message": dict(body)}
    if kind == "preferences":
        return both | {"data": dict(body), "kind": PREFERENCES, "replace": True}
    return both | {"data": dict(body), "kind": INTERACTIONS}
