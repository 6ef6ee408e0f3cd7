"""Calls of the API server that only a person's commands make: logs, dry runs, what may I do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

import httpx2

from ..core.objects import Key, Kind, Object
from ..core.pods import shorten
from ..errors import ClusterError, ConflictError, NotFoundError

_JSON = "application/json"
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_PAGE = 500
# Nothing is stored, and a field that nobody knows is refused instead of dropped.
_DRY = {"dryRun": "All", "fieldValidation": "Strict"}
Params = Mapping[str, str]


class Rest:
    """Plain requests. All may raise ClusterError, with the HTTP status as its code."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def get(self, path: str, params: Params | None = None) -> Object:
        """What the API server has at ``path``."""
        return await self._call("GET", path, params or {})

    async def items(
        self, kind: Kind, namespace: str = "", params: Params | None = None
    ) -> list[Object]:
        """All objects of a kind, in one namespace, or in all, or of the whole cluster."""
        found: list[Object] = []
        asked = {"limit": str(_PAGE), **(params or {})}
        while True:
            page = await self.get(path_of(kind, namespace), asked)
            # A list leaves out what each of its items is.
            what = {"apiVersion": kind.api_version, "kind": kind.kind}
            found += [what | item for item in page.get("items") or ()]
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return found
            asked["continue"] = token

    async def review(self, kind: str, spec: Object) -> Object:
        """The status of a review (``selfsubjectaccessreviews``) that the API server makes."""
        group, name = _REVIEWS[kind]
        body = {"apiVersion": f"{group}/v1", "kind": name, "spec": spec}
        path = f"/apis/{group}/v1/{kind}"
        answer = await self._call("POST", path, {}, body, _JSON)
        status: Object = answer.get("status") or {}
        return status

    async def dry_apply(self, key: Key, obj: Object, manager: str) -> Object:
        """What a server-side apply of ``obj`` by ``manager`` would make, stored nowhere."""
        params = {"fieldManager": manager, "force": "true", **_DRY}
        return await self._call("PATCH", path_of_key(key), params, obj, _APPLY)

    async def dry_merge(self, key: Key, patch: Object) -> Object:
        """What a JSON merge patch would make, stored nowhere."""
        return await self._call("PATCH", path_of_key(key), _DRY, patch, _MERGE)

    async def dry_create(self, key: Key, obj: Object) -> Object:
        """What creating ``obj`` would make, stored nowhere."""
        path = path_of(key.kind, key.namespace)
        return await self._call("POST", path, _DRY, obj, _JSON)

    @asynccontextmanager
    async def log(self, pod: Key, params: Params) -> AsyncIterator[AsyncIterator[str]]:
        """The lines of a pod's log, for as long as they come."""
        path = f"{path_of_key(pod)}/log"
        timeout = httpx2.Timeout(30.0, read=None)
        with _answered(path):
            async with self._http.stream(
                "GET", path, params=dict(params), timeout=timeout
            ) as answer:
                if answer.is_error:
                    await answer.aread()
                    raise _refusal("GET", path, answer)
                yield answer.aiter_lines()

    async def head(self, path: str) -> Mapping[str, str]:
        """The headers of an answer."""
        with _answered(path):
            return (await self._http.get(path)).headers

    async def _call(
        self,
        verb: str,
        path: str,
        params: Params,
        body: Object | None = None,
        content_type: str = _JSON,
    ) -> Object:
        headers = {"Accept": _JSON} | ({"Content-Type": content_type} if body else {})
        content = json.dumps(body) if body is not None else None
        with _answered(path):
            answer = await self._http.request(
                verb, path, params=dict(params), content=content, headers=headers
            )
        if answer.is_error:
            raise _refusal(verb, path, answer)
        found: Object = answer.json()
        return found


_REVIEWS = {
    "selfsubjectaccessreviews": ("authorization.k8s.io", "SelfSubjectAccessReview"),
    "selfsubjectreviews": ("authentication.k8s.io", "SelfSubjectReview"),
}


def path_of(kind: Kind, namespace: str = "") -> str:
    """The path of all objects of a kind."""
    return kind.path(namespace or None)


def path_of_key(key: Key) -> str:
    """The path of one object."""
    return f"{path_of(key.kind, key.namespace)}/{key.name}"


@contextmanager
def _answered(path: str) -> Iterator[None]:
    """Turn the failure to get any answer into a ClusterError."""
    try:
        yield
    except httpx2.HTTPError as error:
        said = str(error) or type(error).__name__
        raise ClusterError(f"Cannot get {path}: no answer ({said}).") from error


def _refusal(verb: str, path: str, answer: httpx2.Response) -> ClusterError:
    code = answer.status_code
    cause = httpx2.HTTPStatusError(str(code), request=answer.request, response=answer)
    try:
        status = answer.json()
        message = str(status.get("message") or code)
        # Before this the API server quotes the whole object, secrets of its spec included.
        said = message.rpartition("strict decoding error: ")[2]
        reason = str(status.get("reason") or "")
    except ValueError:
        said, reason = f"{path}: {' '.join(answer.text.split())[:300] or code}", ""
    kind = {404: NotFoundError, 409: ConflictError}.get(code, ClusterError)
    said = shorten(said)
    error = kind(said[:1].upper() + said[1:], code=code, reason=reason, said=said)
    error.__cause__ = cause
    return error
