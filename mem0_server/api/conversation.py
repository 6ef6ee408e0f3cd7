"""Recall and archival memory of one agent about one human."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel

from mem0_server.api.errors import documented
from mem0_server.api.services import Parts, services_of
from mem0_server.errors import InvalidInputError
from mem0_server.models import (
    MEM0_KIND,
    READ_ROLES,
    AgentId,
    FoundRecord,
    FoundRecords,
    HumanId,
    Kind,
    Message,
    MessageBody,
    Messages,
    Record,
    RecordBody,
    Records,
    SearchBody,
    Text,
)
from mem0_server.store.jobs import Scope

router = APIRouter(prefix="/agents/{agent_id}/humans/{human_id}", tags=["memory"])

IdempotencyKey = Annotated[
    Text | None,
    Header(
        min_length=1,
        max_length=200,
        description="Sent again with the same content, it stores nothing and answers 200",
    ),
]
Limit = Annotated[int, Query(ge=1, le=1000)]
_JSON = "application/json"


@router.post(
    "/recall",
    status_code=201,
    response_model=Message,
    responses={
        200: {"model": Message, "description": "Stored before under this key"},
        **documented(404, 409, 503),
    },
)
async def append(
    agent_id: AgentId,
    human_id: HumanId,
    body: MessageBody,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Append a message to the conversation."""
    parts = services_of(request)
    wanted = parts.settings.infer_on_append if body.infer is None else body.infer
    infer = wanted and body.role in READ_ROLES
    message, new = await parts.recall.append(
        agent_id, human_id, body.role, body.content, idempotency_key, infer=infer
    )
    if infer:
        parts.inference.wake()
    return _json(message, 201 if new else 200)


@router.get("/recall", response_model=Messages, responses=documented(404, 503))
async def recall(
    agent_id: AgentId,
    human_id: HumanId,
    request: Request,
    limit: Limit = 10,
    before: Annotated[
        int | None, Query(ge=0, le=2**63 - 1, description="Only messages older than this id")
    ] = None,
) -> Response:
    """The newest messages, oldest first."""
    found = await services_of(request).recall.newest(agent_id, human_id, limit, before)
    return _json(Messages.model_construct(messages=found))


@router.post(
    "/archival",
    status_code=201,
    responses={
        200: {"model": Record, "description": "Stored before under this key"},
        **documented(404, 409, 503),
    },
)
async def archive(
    agent_id: AgentId,
    human_id: HumanId,
    body: RecordBody,
    parts: Parts,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Record:
    """Keep a record; it can be searched as soon as Ollama has embedded it."""
    if body.kind == MEM0_KIND:
        raise InvalidInputError(
            f"the kind {MEM0_KIND!r} belongs to POST /memories; choose another", field="kind"
        )
    record, new = await parts.archival.add(
        agent_id, human_id, body.kind, body.data, replace=body.replace, key=idempotency_key
    )
    if not new:
        response.status_code = 200
    parts.indexer.wake()
    return record


@router.get("/archival", responses=documented(404, 503))
async def records(
    agent_id: AgentId,
    human_id: HumanId,
    parts: Parts,
    kind: Annotated[Kind | None, Query()] = None,
    limit: Limit = 10,
) -> Records:
    """The newest records, newest first."""
    found = await parts.archival.newest(agent_id, human_id, kind, limit)
    return Records.model_construct(records=found)


@router.post("/archival/search", responses=documented(404, 503))
async def search(
    agent_id: AgentId, human_id: HumanId, body: SearchBody, parts: Parts
) -> FoundRecords:
    """The records nearest in meaning to the query, nearest first; without one, the newest."""
    query = (body.query or "").strip()
    if not query:
        newest = await parts.archival.newest(agent_id, human_id, body.kind, body.limit)
        return FoundRecords(records=[FoundRecord(**record.model_dump()) for record in newest])
    scope = Scope(human_id=human_id, agent_id=agent_id)
    hits = await parts.indexer.search(query, scope, body.kind, body.limit)
    scores = {hit.record_id: hit.score for hit in hits}
    return FoundRecords(records=await parts.archival.found(agent_id, human_id, scores))


# Their endpoints read nothing but their parameters, and return a response.
LEAN = [
    route
    for route in router.routes
    if isinstance(route, APIRoute) and route.endpoint in (append, recall)
]


def _json(content: BaseModel, status: int = 200) -> Response:
    """An answer that is of its model already: written out once, and not checked again."""
    return Response(content.__pydantic_serializer__.to_json(content), status, media_type=_JSON)
