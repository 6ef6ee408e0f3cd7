"""One Ollama, as the pull needs it: what it has, and pull, copy and delete."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import httpx

# A server writes a line about every tenth of a second while it downloads, but may be silent while
# it hashes gigabytes.
_TIMEOUT = httpx.Timeout(30.0, connect=5.0)
_SILENCE = 600.0


class ServerError(Exception):
    """The server does not answer, or not as Ollama does."""


@dataclass(frozen=True)
class Held:
    """A model that a server has."""

    name: str
    digest: str
    size: int
    """Bytes of all its layers, those shared with other models included."""


class Server:
    """The Ollama at ``url``. Calls raise ServerError."""

    def __init__(self, url: str, client: httpx.AsyncClient | None = None) -> None:
        self.url = url
        self._client = client or httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def models(self) -> list[Held]:
        """What it has."""
        body = await self._json("GET", "/api/tags")
        return [_held(entry) for entry in body.get("models") or ()]

    async def loaded(self) -> set[str]:
        """Names of the models in its memory: those used of late."""
        body = await self._json("GET", "/api/ps")
        return {str(entry.get("name")) for entry in body.get("models") or ()}

    async def pull(self, name: str, *, insecure: bool) -> AsyncGenerator[dict[str, Any]]:
        """The lines that it says while it pulls ``name``. Leaving off ends the download."""
        request = {"model": name, "insecure": insecure, "stream": True}
        timeout = httpx.Timeout(_SILENCE, connect=5.0)
        try:
            async with self._client.stream(
                "POST", f"{self.url}/api/pull", json=request, timeout=timeout
            ) as response:
                if response.is_error:
                    raise ServerError(_refusal(response.status_code, await response.aread()))
                async for text in response.aiter_lines():
                    if text.strip():
                        yield _line(text)
        except httpx.HTTPError as error:
            raise ServerError(f"{self.url} broke off ({type(error).__name__})") from error

    async def copy(self, source: str, destination: str) -> None:
        """Give a model a second name; costs no space."""
        await self._json("POST", "/api/copy", {"source": source, "destination": destination})

    async def delete(self, name: str) -> None:
        """Delete a model, and those of its layers that no other one has."""
        await self._json("DELETE", "/api/delete", {"model": name})

    async def _json(
        self, method: str, path: str, content: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        try:
            response = await self._client.request(method, f"{self.url}{path}", json=content)
        except httpx.HTTPError as error:
            raise ServerError(f"{self.url} does not answer ({type(error).__name__})") from error
        if response.is_error:
            raise ServerError(_refusal(response.status_code, response.content))
        return _line(response.text) if response.text.strip() else {}


def _line(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ServerError(f"the model server says what no Ollama says: {text[:100]!r}")
    return found


def _refusal(code: int, content: bytes) -> str:
    text = content.decode(errors="replace")
    try:
        reason = str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        reason = text[:200] or "no reason given"
    return f"the model server answers {code}: {reason}"


def _held(entry: dict[str, Any]) -> Held:
    return Held(str(entry.get("name")), str(entry.get("digest") or ""), int(entry.get("size") or 0))
