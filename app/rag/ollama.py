"""Ollama's HTTP API: version, models, embeddings, chat. What brings models is in app.pull."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import httpx

from app.core.config import Settings
from app.errors import ModelServerError
from app.rag.model_server import ChatOptions, ModelServer


def full_name(model: str) -> str:
    """The name as Ollama lists it: ``:latest`` stands where no tag does."""
    return model if ":" in model.rsplit("/", 1)[-1] else f"{model}:latest"


class Ollama(ModelServer):
    """An Ollama."""

    label = "Ollama"
    setting = "OLLAMA_BASE_URL"

    def __init__(self, settings: Settings, client: httpx.AsyncClient | None = None) -> None:
        super().__init__(settings, settings.ollama_base_url, client)

    def full_name(self, model: str) -> str:
        """The model's name as the server lists it."""
        return full_name(model)

    async def version(self) -> str:
        """The server's version; loads no model."""
        body = await self._json("version", "GET", "/api/version")
        return f"version {body.get('version', 'unknown')}"

    async def models(self) -> list[str]:
        """Full names of the models on the server, sorted."""
        body = await self._json("tags", "GET", "/api/tags")
        return sorted(full_name(str(entry["name"])) for entry in body.get("models") or [])

    async def digest(self, model: str) -> str | None:
        """The digest of the model's manifest; None when it is not there."""
        body = await self._json("tags", "GET", "/api/tags")
        entries = {full_name(str(entry["name"])): entry for entry in body.get("models") or []}
        found = (entries.get(full_name(model)) or {}).get("digest")
        return str(found) if found else None

    async def _embed_batch(self, model: str, texts: list[str]) -> Any:
        request = {"model": model, "input": texts, "truncate": True}
        body = await self._json(
            "embed", "POST", "/api/embed", json=request, timeout=self._embedding_timeout
        )
        return body.get("embeddings")

    async def chat(
        self, model: str, messages: Sequence[dict[str, str]], options: ChatOptions
    ) -> AsyncGenerator[str, None]:
        """The answer, piece by piece as the model makes it. Close it to stop the model."""
        request = {
            "model": model,
            "messages": list(messages),
            "stream": True,
            "options": {
                "num_ctx": options.context_tokens,
                "num_predict": options.answer_tokens,
                "temperature": options.temperature,
            },
        }
        async with self._stream("/api/chat", model, request) as response:
            finished = False
            async for line in response.aiter_lines():
                if not line.strip():
                    continue
                part: dict[str, Any] = json.loads(line)
                if "error" in part:
                    raise ModelServerError(f"Ollama stopped the answer of {model}: {part['error']}")
                text = (part.get("message") or {}).get("content") or ""
                if text:
                    yield text
                finished = finished or bool(part.get("done"))
            if not finished:
                raise self._broken_off(model)

    def _reason(self, body: Any) -> str:
        return str(body["error"])

    def cure_of_missing(self, model: str) -> str:
        """What to do where the server lacks ``model``."""
        return f"it may still be pulled, else run `ollama pull {model}` on the server"
