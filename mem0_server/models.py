"""What goes over the wire, and what the store returns.

Text that PostgreSQL cannot hold (a NUL, half of a surrogate pair, NaN) is refused here, with the
name of the field.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import unquote
from uuid import UUID

from fastapi import Path
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

MEM0_KIND = "mem0"
# The roles whose messages mem0ai reads when it finds facts.
READ_ROLES = frozenset({"system", "user", "assistant"})
# A NUL as JSON writes it: not one after an odd backslash, which is a backslash and "u0000".
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def storable_text(text: str) -> str:
    """``text`` itself.

    :raises ValueError: PostgreSQL cannot hold it.
    """
    if "\x00" in text:
        raise ValueError("must not contain a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode") from None
    return text


def storable_object(data: dict[str, Any]) -> dict[str, Any]:
    """``data`` itself.

    :raises ValueError: it cannot be stored as JSON in PostgreSQL.
    """
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        raise ValueError("must be JSON without NaN, Infinity or very deep nesting") from None
    if _NUL.search(text):
        raise ValueError("must not contain a NUL character")
    storable_text(text)
    return data


def _decoded(segment: object) -> object:
    """A path segment without its percent-encoding (the router sees it encoded)."""
    return unquote(segment, errors="strict") if isinstance(segment, str) else segment


Text = Annotated[str, AfterValidator(storable_text)]
Object = Annotated[dict[str, Any], AfterValidator(storable_object)]
Identifier = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(storable_text)]
Kind = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(storable_text)]
AgentId = Annotated[
    Identifier, BeforeValidator(_decoded), Path(description="Percent-encoded", examples=["helper"])
]
HumanId = Annotated[
    Identifier, BeforeValidator(_decoded), Path(description="Percent-encoded", examples=["ada"])
]
Role = Literal["user", "assistant", "system", "tool"]


class Body(BaseModel):
    """A request's body: a field that nobody reads is an error, not a silence.

    A value of another type is one, too, as the OpenAPI document says.
    """

    model_config = ConfigDict(extra="forbid", strict=True)


class AgentBody(Body):
    """What an agent is."""

    name: Annotated[Text, Field(max_length=200, examples=["Helper"])]
    persona: Annotated[Text, Field(max_length=20_000, examples=["A concise assistant."])]


class Agent(BaseModel):
    """Somebody who talks with humans."""

    id: str
    name: str
    persona: str
    created_at: datetime
    updated_at: datetime


class HumanBody(Body):
    """What is known of a human at first; without a name, a known one stays."""

    name: Annotated[Text | None, Field(max_length=200, examples=["Ada"])] = None


class Human(BaseModel):
    """Somebody about whom things are remembered."""

    id: str
    name: str | None
    created_at: datetime
    updated_at: datetime


class MessageBody(Body):
    """One thing said."""

    role: Annotated[Role, Field(examples=["user"])]
    content: Annotated[Text, Field(examples=["My train leaves at nine."])]
    infer: Annotated[
        bool | None,
        Field(
            description="Find facts in it after the answer, and keep them as memories; left out, "
            "the deployment decides"
        ),
    ] = None


class Message(BaseModel):
    """One thing said, at its place in the conversation."""

    id: Annotated[int, Field(description="Grows with every message; gives the order")]
    role: str
    content: str
    idempotency_key: Annotated[
        str | None, Field(description="The key it was appended under: tells it from one like it")
    ] = None
    created_at: datetime


class Messages(BaseModel):
    """The newest messages, oldest first."""

    messages: list[Message]


class RecordBody(Body):
    """Something to keep."""

    kind: Annotated[Kind, Field(examples=["preferences"])]
    data: Annotated[Object, Field(examples=[{"language": "German"}])]
    replace: Annotated[bool, Field(description="Take the place of all records of this kind")] = (
        False
    )


class Record(BaseModel):
    """Something kept."""

    id: UUID
    kind: str
    data: dict[str, Any]
    created_at: datetime


class Records(BaseModel):
    """Records, newest first."""

    records: list[Record]


class SearchBody(Body):
    """What to look for; without a query, the newest."""

    query: Annotated[Text | None, Field(examples=["which language?"])] = None
    kind: Annotated[Kind | None, Field(examples=["preferences"])] = None
    limit: Annotated[int, Field(ge=1, le=100)] = 10


class FoundRecord(Record):
    """A record and how near it is to the query: 1 is nearest; null without a query."""

    score: float | None = None


class FoundRecords(BaseModel):
    """Records, nearest first."""

    records: list[FoundRecord]


class Deleted(BaseModel):
    """How much of each kind was deleted."""

    messages: int
    records: int


class Problem(BaseModel):
    """What went wrong, to what, and what to do."""

    code: Annotated[str, Field(description="Stable name", examples=["human_not_found"])]
    message: str
    field: Annotated[str | None, Field(description="The part of the request at fault")] = None


class ProblemBody(BaseModel):
    """The body of every answer that is an error."""

    error: Problem


class Health(BaseModel):
    """The process serves."""

    status: Literal["ok"] = "ok"
    version: str


class Ready(BaseModel):
    """The database answers and is migrated."""

    status: Literal["ready"] = "ready"
    schema_version: str


class Reindexing(BaseModel):
    """How far the index of another embedding model is."""

    model: str
    dimensions: int
    done: int
    total: int
    percent: int
    rate: Annotated[float, Field(description="Records a second")]
    eta_seconds: int | None


class EmbeddingStatus(BaseModel):
    """Whether records can be indexed and searched now."""

    status: Literal["ok", "starting", "unavailable"]
    model: str
    dimensions: int | None
    reason: str | None
    message: Annotated[
        str | None, Field(description="Why another model of the settings is not used, or waits")
    ] = None
    reindex: Reindexing | None = None


class DatabaseLogin(BaseModel):
    """Which login the connections to the database use."""

    fingerprint: Annotated[
        str | None,
        Field(description="First 12 hex digits of the SHA-256 of user, newline, password"),
    ]
    former_connections: Annotated[int, Field(description="Still open with an earlier login")]


class Status(BaseModel):
    """For operators: what is accepted, where the schema stands, what waits."""

    accepted_keys: Annotated[list[str], Field(description="First 12 hex digits of each SHA-256")]
    key_idle_seconds: Annotated[
        dict[str, float],
        Field(description="Since each was last presented, but to this route; not if it never was"),
    ]
    database: DatabaseLogin
    schema_version: str
    backlog: Annotated[int, Field(description="Records that wait to be indexed")]
    infer_backlog: Annotated[int, Field(description="Messages in which facts are to be found")]
    embeddings: EmbeddingStatus
