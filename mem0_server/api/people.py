"""Agents and humans, and everything held about a human."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from mem0_server.api.errors import documented
from mem0_server.api.services import Parts
from mem0_server.models import Agent, AgentBody, AgentId, Deleted, Human, HumanBody, HumanId

PAGE = 500

router = APIRouter(tags=["agents and humans"])


@router.put("/agents/{agent_id}", responses=documented(503))
async def put_agent(agent_id: AgentId, body: AgentBody, parts: Parts) -> Agent:
    """Make the agent, or change it."""
    return await parts.people.put_agent(agent_id, body.name, body.persona)


@router.get("/agents/{agent_id}", responses=documented(404, 503))
async def get_agent(agent_id: AgentId, parts: Parts) -> Agent:
    """The agent."""
    return await parts.people.get_agent(agent_id)


@router.put("/humans/{human_id}", responses=documented(503))
async def put_human(human_id: HumanId, body: HumanBody, parts: Parts) -> Human:
    """Make the human, or change the name."""
    return await parts.people.put_human(human_id, body.name)


@router.get("/humans/{human_id}", responses=documented(404, 503))
async def get_human(human_id: HumanId, parts: Parts) -> Human:
    """The human."""
    return await parts.people.get_human(human_id)


@router.delete("/humans/{human_id}", responses=documented(404, 503))
async def delete_human(human_id: HumanId, parts: Parts) -> Deleted:
    """Delete all that is held about the human, the search index included, in one transaction."""
    return await parts.people.delete_human(human_id)


@router.get(
    "/humans/{human_id}/export",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/x-ndjson": {"schema": {"type": "string"}}}},
        **documented(404, 503),
    },
)
async def export_human(human_id: HumanId, parts: Parts) -> StreamingResponse:
    """All that is held about the human, one JSON object a line; the last line has the counts."""
    human = await parts.people.get_human(human_id)
    lines = _lines(parts, human)
    return StreamingResponse(lines, media_type="application/x-ndjson")


async def _lines(parts: Parts, human: Human) -> AsyncIterator[str]:
    """Pages, so that a slow reader holds no connection; an export that ends early has no end."""
    yield _line("human", human.model_dump(mode="json"))
    counts = {"messages": 0, "records": 0, "history": 0}
    last = ("", 0)
    while messages := await parts.recall.page(human.id, last, PAGE):
        for message in messages:
            yield _line("message", message)
        counts["messages"] += len(messages)
        last = (str(messages[-1]["agent_id"]), int(str(messages[-1]["id"])))
    for kind, counted, page in (
        ("record", "records", parts.archival.page),
        ("history", "history", parts.history.page),
    ):
        after = 0
        while rows := await page(human.id, after, PAGE):
            for row in rows:
                yield _line(kind, {name: value for name, value in row.items() if name != "seq"})
            counts[counted] += len(rows)
            after = rows[-1]["seq"]
    for kind, counted, few in (
        ("said", "said", parts.memories.said_by),
        ("entity", "entities", parts.entities.of_human),
    ):
        found = await few(human.id)
        for one in found:
            yield _line(kind, one)
        counts[counted] = len(found)
    yield _line("end", counts)


def _line(kind: str, content: dict[str, Any]) -> str:
    return json.dumps({"type": kind, **content}, default=_text, ensure_ascii=False) + "\n"


def _text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
