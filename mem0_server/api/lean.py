"""The routes that every chat needs, read and answered without FastAPI's machinery.

They are declared and documented with FastAPI like all others; :class:`Lean` stands before it,
knows their paths, and reads path, query, header and body by the types in their own signatures.
What FastAPI does in between (layers, exit stacks, a dependency graph) was a third of what an
append costs beside the database. Where a path or a method is not one of theirs, FastAPI answers.
"""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message as Head
from typing import Any
from urllib.parse import parse_qsl

from fastapi import params
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from mem0_server.api.errors import invalid, no_json

Found = dict[str, Any]
_MISSING: dict[str, Any] = {"type": "missing", "msg": "Field required"}
_NOTHING = object()


@dataclass(frozen=True, slots=True)
class _Parameter:
    """One parameter of an endpoint: where it stands in a request, and what it must be."""

    name: str
    place: str
    alias: str
    validate: Callable[[Any], Any]
    default: Any

    def read(self, values: Mapping[str, Any], into: Found, errors: list[Found]) -> None:
        """Its value goes ``into`` the arguments, or what is wrong with it to ``errors``."""
        given = values.get(self.alias, _NOTHING)
        if given is _NOTHING:
            if self.default is inspect.Parameter.empty:
                errors.append({**_MISSING, "loc": (self.place, self.alias)})
            else:
                into[self.name] = self.default
            return
        _checked(self, given, (self.place, self.alias), into, errors)


class _LeanRoute:
    """One of the routes: how it is found and read. Its endpoint returns a ``Response``."""

    def __init__(self, route: APIRoute) -> None:
        self.route = route
        self.methods = route.methods or set()
        self.match = route.path_regex.fullmatch
        self._endpoint = route.endpoint
        self._request = ""
        self._body: _Parameter | None = None
        self._by_place: dict[str, list[_Parameter]] = {"path": [], "query": [], "header": []}
        hints = typing.get_type_hints(route.endpoint, include_extras=True)
        for name, parameter in inspect.signature(route.endpoint).parameters.items():
            self._learn(name, hints[name], parameter.default)

    async def answer(
        self, request: Request, path: Mapping[str, str], scope: Scope, receive: Receive
    ) -> Response:
        """What the endpoint answers, or a 422 that names what is wrong."""
        found: Found = {self._request: request}
        errors: list[Found] = []
        for parameter in self._by_place["path"]:
            parameter.read(path, found, errors)
        if self._by_place["query"]:
            query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
            for parameter in self._by_place["query"]:
                parameter.read(query, found, errors)
        for parameter in self._by_place["header"]:
            parameter.read(request.headers, found, errors)
        if self._body is not None:
            try:
                content = _parsed(await _whole(receive), request.headers.get("content-type"))
            except json.JSONDecodeError as error:
                wrong = {"loc": ("body", error.pos), "msg": "JSON decode error"}
                return invalid([wrong])
            except (ValueError, RecursionError):
                return no_json()
            if content is _NOTHING:
                errors.append({**_MISSING, "loc": ("body",)})
            else:
                _checked(self._body, content, ("body",), found, errors)
        if errors:
            return invalid(errors)
        response: Response = await self._endpoint(**found)
        return response

    def _learn(self, name: str, hint: Any, default: Any) -> None:
        """Take in one parameter; what FastAPI could serve and this cannot is refused at start."""
        extras = getattr(hint, "__metadata__", ())
        if hint is Request:
            self._request = name
            return
        adapter = TypeAdapter(hint)
        if isinstance(hint, type) and issubclass(hint, BaseModel):
            self._body = _Parameter(name, "body", "", adapter.validate_python, default)
            return
        for extra in extras:
            for kind, place in _KINDS.items():
                if isinstance(extra, kind):
                    alias = name.replace("_", "-") if place == "header" else name
                    self._by_place[place].append(
                        _Parameter(name, place, alias, adapter.validate_python, default)
                    )
                    return
        raise TypeError(f"{self._endpoint.__name__}: {name}: say where it stands in a request")


_KINDS = {params.Path: "path", params.Query: "query", params.Header: "header"}


class Lean:
    """Answers the requests for ``routes``; hands all others on to ``app``."""

    def __init__(self, app: ASGIApp, routes: Sequence[APIRoute]) -> None:
        self._app = app
        self._routes = [_LeanRoute(route) for route in routes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            for route in self._routes:
                if scope["method"] in route.methods and (match := route.match(scope["path"])):
                    scope["route"] = route.route
                    request = Request(scope, receive)
                    response = await route.answer(request, match.groupdict(), scope, receive)
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def _checked(
    parameter: _Parameter, given: Any, place: tuple[Any, ...], into: Found, errors: list[Found]
) -> None:
    try:
        into[parameter.name] = parameter.validate(given)
    except ValidationError as error:
        errors.extend(
            {**one, "loc": (*place, *one["loc"])} for one in error.errors(include_url=False)
        )


async def _whole(receive: Receive) -> bytes:
    """The body; the gate has read and bounded it already, so it comes at once."""
    chunks = []
    more = True
    while more:
        message = await receive()
        chunks.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(chunks)


def _parsed(body: bytes, content_type: str | None) -> Any:
    """The JSON in ``body``; the bytes themselves where they are said to be something else.

    :raises ValueError: it is no JSON, or no UTF-8.
    """
    if not body:
        return _NOTHING
    if content_type == "application/json":
        return json.loads(body)
    head = Head()
    head["content-type"] = content_type or ""
    subtype = head.get_content_subtype()
    is_json = head.get_content_maintype() == "application" and (
        subtype == "json" or subtype.endswith("+json")
    )
    return json.loads(body) if content_type and is_json else body
