"""A lean route reads and refuses what FastAPI reads and refuses, and is described by it."""

import asyncio
import json
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.routing import APIRoute
from hypothesis import given, settings
from hypothesis import strategies as st

from mem0_server.api import conversation, errors
from mem0_server.api.conversation import IdempotencyKey, Limit
from mem0_server.api.lean import Lean
from mem0_server.models import AgentId, HumanId, MessageBody

router = APIRouter()


@router.post("/agents/{agent_id}/humans/{human_id}/recall")
async def said(
    agent_id: AgentId,
    human_id: HumanId,
    body: MessageBody,
    request: Request,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    read = [request.method, agent_id, human_id, body.model_dump(), idempotency_key]
    return Response(json.dumps(read))


@router.get("/agents/{agent_id}/humans/{human_id}/recall")
async def asked(
    agent_id: AgentId,
    human_id: HumanId,
    request: Request,
    limit: Limit = 10,
    before: Annotated[int | None, Query(ge=0)] = None,
) -> Response:
    return Response(json.dumps([request.method, agent_id, human_id, limit, before]))


class Encoded:
    """As the gate does: the path is matched as it was sent."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            scope = {**scope, "path": scope["raw_path"].decode("latin-1")}
        await self.app(scope, receive, send)


def made(*, lean):
    app = FastAPI(redirect_slashes=False)
    app.include_router(router)
    errors.install(app)
    if lean:
        routes = [route for route in router.routes if isinstance(route, APIRoute)]
        app.add_middleware(Lean, routes=routes)
    app.add_middleware(Encoded)
    return app


LEAN, USUAL = made(lean=True), made(lean=False)


def both(method, path, content=b"", headers=()):
    """What either answers: status, and the body, or what is refused of how many fields."""

    async def ask(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            sent = [(name.encode(), value.encode("latin-1")) for name, value in headers]
            answer = await client.request(method, path, content=content, headers=sent)
        if answer.is_success or not answer.text:
            return answer.status_code, answer.text
        error = answer.json()["error"]
        return answer.status_code, error["code"], error["field"], error["message"].count("; ")

    return asyncio.run(ask(LEAN)), asyncio.run(ask(USUAL))


JSON = (("Content-Type", "application/json"),)
GOOD = b'{"role": "user", "content": "hello"}'
PATH = "/agents/helper/humans/ada/recall"


@pytest.mark.parametrize(
    ("method", "path", "content", "headers"),
    [
        ("POST", PATH, GOOD, JSON),
        ("POST", PATH, GOOD, (("content-type", "application/problem+json; charset=utf-8"),)),
        ("POST", PATH, GOOD, (("content-type", "Application/JSON"),)),
        ("POST", PATH, GOOD, (("content-type", "text/plain"),)),
        ("POST", PATH, GOOD, ()),
        ("POST", PATH, b"", JSON),
        ("POST", PATH, b"{", JSON),
        ("POST", PATH, b"\xff\xfe", JSON),
        ("POST", PATH, b"[" * 100_000, JSON),
        ("POST", PATH, b"null", JSON),
        ("POST", PATH, b'{"role": "user", "content": NaN}', JSON),
        ("POST", PATH, b'{"role": "user", "content": "\\ud800"}', JSON),
        ("POST", PATH, b'{"role": "robot", "content": 1, "more": 2}', JSON),
        ("POST", PATH, GOOD, (*JSON, ("Idempotency-Key", "k"))),
        ("POST", PATH, GOOD, (*JSON, ("idempotency-key", "k"), ("Idempotency-Key", "l"))),
        ("POST", PATH, GOOD, (*JSON, ("Idempotency-Key", ""))),
        ("POST", PATH, GOOD, (*JSON, ("Idempotency-Key", "x" * 201))),
        ("POST", f"/agents/a%2Fb/humans/{'x' * 201}/recall", GOOD, JSON),
        ("POST", "/agents/%ff/humans/%00/recall", b'{"role": "user"}', JSON),
        ("POST", "/agents//humans/ada/recall", GOOD, JSON),
        ("POST", f"{PATH}/", GOOD, JSON),
        ("PATCH", PATH, GOOD, JSON),
        ("HEAD", PATH, b"", ()),
        ("GET", PATH, b"", ()),
        ("GET", f"{PATH}?limit=3&limit=4&before=7&else=1", b"", ()),
        ("GET", f"{PATH}?limit=0&before=-1", b"", ()),
        ("GET", f"{PATH}?limit=&before=many", b"", ()),
        ("GET", f"{PATH}?limit=1%32&before=+5", b"", ()),
    ],
)
def test_it_answers_as_fastapi_does(method, path, content, headers):
    lean, usual = both(method, path, content, headers)
    assert lean == usual


BODIES = st.one_of(
    st.binary(max_size=20),
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["user", "robot", 1]),
            "content": st.text(max_size=5) | st.integers() | st.none(),
            "infer": st.booleans() | st.just("yes"),
            "more": st.none(),
        },
    ).map(lambda body: json.dumps(body).encode()),
)


@settings(max_examples=50, deadline=None)
@given(content=BODIES, key=st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126)))
def test_it_refuses_whatever_fastapi_refuses(content, key):
    headers = JSON if key is None else (*JSON, ("Idempotency-Key", key))
    lean, usual = both("POST", PATH, content, headers)
    assert lean == usual


def test_the_hot_routes_are_lean():
    assert {(min(route.methods), route.endpoint) for route in conversation.LEAN} == {
        ("POST", conversation.append),
        ("GET", conversation.recall),
    }


def test_what_it_cannot_read_is_refused_at_start():
    strange = APIRouter()

    @strange.get("/strange")
    async def endpoint(number: int) -> Response:
        return Response(str(number))

    with pytest.raises(TypeError, match="endpoint: number"):
        Lean(USUAL, strange.routes)
