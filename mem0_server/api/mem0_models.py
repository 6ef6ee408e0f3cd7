"""The bodies and answers of mem0's own interface."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from mem0_server.models import Identifier, Object, Text


class Mem0Message(BaseModel):
    """One message in mem0's form."""

    model_config = ConfigDict(extra="ignore", strict=True)

    role: Annotated[Text, Field(min_length=1, max_length=50, examples=["user"])]
    content: Annotated[Text, Field(examples=["I am a vegetarian."])]
    name: Annotated[Text | None, Field(max_length=200)] = None


class AddBody(BaseModel):
    """What mem0's ``add`` takes; fields of mem0 that mean nothing here are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    messages: Annotated[
        Mem0Message | list[Mem0Message] | Text,
        Field(examples=[[{"role": "user", "content": "I am a vegetarian."}]]),
    ]
    user_id: Annotated[Identifier | None, Field(examples=["ada"])] = None
    agent_id: Identifier | None = None
    run_id: Identifier | None = None
    metadata: Annotated[Object | None, Field(examples=[{"topic": "food"}])] = None
    infer: Annotated[bool, Field(description="Keep the facts found, not the messages")] = True
    prompt: Annotated[Text | None, Field(description="Instructions for finding facts")] = None
    memory_type: Annotated[str | None, Field(description="Refused: not supported")] = None
    expiration_date: Annotated[str | None, Field(description="Refused: not supported")] = None


class FindBody(BaseModel):
    """What mem0's ``search`` takes."""

    model_config = ConfigDict(extra="ignore", strict=True)

    query: Annotated[Text, Field(examples=["what may be cooked?"])]
    user_id: Annotated[Identifier | None, Field(examples=["ada"])] = None
    agent_id: Identifier | None = None
    run_id: Identifier | None = None
    filters: Object | None = None
    limit: Annotated[int, Field(ge=1, le=100, validation_alias=AliasChoices("top_k", "limit"))] = 20
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.1


class Mem0Memory(BaseModel):
    """A memory in mem0's form; fields that mem0 leaves out when they are empty are left out."""

    id: str
    memory: str
    hash: str | None = None
    metadata: dict[str, Any] | None = None
    score: float | None = None
    created_at: str | None = None
    updated_at: str | None = None
    user_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None
    actor_id: str | None = None
    role: str | None = None
    attributed_to: str | None = None


class Mem0Event(BaseModel):
    """What happened to one memory."""

    id: str
    memory: str
    event: str
    actor_id: str | None = None
    role: str | None = None


class Mem0Memories(BaseModel):
    """Memories under ``results``, as mem0 answers."""

    results: list[Mem0Memory]


class Mem0Events(BaseModel):
    """Events under ``results``, as mem0 answers."""

    results: list[Mem0Event]


class ChangeBody(BaseModel):
    """What mem0's ``update`` takes: a new text, metadata to add, or both."""

    model_config = ConfigDict(
        extra="ignore",
        strict=True,
        json_schema_extra={
            "anyOf": [{"required": ["text"]}, {"required": ["data"]}, {"required": ["metadata"]}]
        },
    )

    text: Annotated[Text | None, Field(examples=["I am a vegan."])] = None
    data: Annotated[Text | None, Field(description="The older name of text")] = None
    metadata: Object | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.text is None and self.data is None and self.metadata is None:
            raise ValueError("at least one of text and metadata is needed")
        return self


class Mem0Change(BaseModel):
    """One event in the history of a memory."""

    id: UUID
    memory_id: UUID
    old_memory: str | None
    new_memory: str | None
    event: Annotated[Literal["ADD", "UPDATE", "DELETE"], Field()]
    created_at: datetime
    updated_at: datetime
    is_deleted: bool
    actor_id: str | None
    role: str | None


class Mem0Done(BaseModel):
    """mem0's answer to a change."""

    message: str
