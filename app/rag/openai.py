"""The HTTP API that OpenAI made common: models, embeddings, chat completions.

vLLM, llama.cpp, LiteLLM, Ollama itself under ``/v1`` and others serve it. Only what all of them
have is used.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Collection, Sequence
from pathlib import Path
from typing import Any

import httpx

from app.core.config import Settings
from app.core.trust import trust
from app.errors import ConfigurationError, ModelServerError
from app.rag.model_server import CONNECT_TIMEOUT, PROBE_TIMEOUT, ChatOptions, ModelServer


class OpenAI(ModelServer):
    """A server that speaks OpenAI's API at ``address``, such as ``http://vllm:8000/v1``."""

    label = "The model server"
    setting = "OPENAI_BASE_URL"

    def __init__(
        self,
        settings: Settings,
        address: str,
        client: httpx.AsyncClient | None = None,
        *,
        key_file: Path | None = None,
    ) -> None:
        """``key_file`` holds the bearer key; without one it is OPENAI_API_KEY, if any."""
        client = client or httpx.AsyncClient(
            base_url=address,
            auth=_Key(None if key_file else settings.openai_api_key, key_file),
            verify=trust(settings),
            timeout=httpx.Timeout(PROBE_TIMEOUT, connect=CONNECT_TIMEOUT),
            trust_env=False,  # a proxy meant for the outside must not see the documents
        )
        super().__init__(settings, address, client)

    def full_name(self, model: str) -> str:
        """The model's name as the server lists it: the same."""
        return model

    def lists(self, model: str, listed: Collection[str]) -> bool:
        """As the one of all servers; an Ollama adds ``:latest`` in its list here, too."""
        return super().lists(model, listed) or f"{model}:latest" in listed

    async def version(self) -> str:
        """How many models it has; the API tells nothing of the server."""
        return f"{len(await self.models())} models"

    async def models(self) -> list[str]:
        """The models on the server, sorted."""
        body = await self._json("models", "GET", "/models")
        return sorted(str(entry["id"]) for entry in body.get("data") or [])

    async def _embed_batch(self, model: str, texts: list[str]) -> Any:
        request = {"model": model, "input": texts, "encoding_format": "float"}
        body = await self._json(
            "embed", "POST", "/embeddings", json=request, timeout=self._embedding_timeout
        )
        entries = body.get("data")
        if not isinstance(entries, list):
            return None
        return [e["embedding"] for e in sorted(entries, key=lambda e: int(e["index"]))]

    async def chat(
        self, model: str, messages: Sequence[dict[str, str]], options: ChatOptions
    ) -> AsyncGenerator[str, None]:
        """The answer, piece by piece as the model makes it. Close it to stop the model.

        The size of the context is the server's own matter in this API.
        """
        request = {
            "model": model,
            "messages": list(messages),
            "stream": True,
            "max_tokens": options.answer_tokens,
            "temperature": options.temperature,
        }
        async with self._stream("/chat/completions", model, request) as response:
            finished = False
            async for line in response.aiter_lines():
                field, _, data = line.partition(":")
                if field != "data":
                    continue
                data = data.strip()
                if data == "[DONE]":
                    finished = True
                    break
                part: dict[str, Any] = json.loads(data)
                if part.get("error"):
                    raise ModelServerError(
                        f"The model server stopped the answer of {model}: {self._reason(part)}"
                    )
                for choice in part.get("choices") or []:
                    text = (choice.get("delta") or {}).get("content") or ""
                    if text:
                        yield text
                    finished = finished or bool(choice.get("finish_reason"))
            if not finished:
                raise self._broken_off(model)

    def _reason(self, body: Any) -> str:
        error = body["error"]
        return str(error["message"] if isinstance(error, dict) else error)

    def cure_of_missing(self, model: str) -> str:
        """What to do where the server lacks ``model``."""
        return "start it there, or name in the settings one that it has"


class _Key(httpx.Auth):
    """The bearer key of the moment: a file is read again for every request."""

    def __init__(self, key: str | None, file: Path | None) -> None:
        self._key = key
        self._file = file

    def auth_flow(self, request: httpx.Request) -> Any:
        key = self._key
        if self._file is not None:
            try:
                key = self._file.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise ConfigurationError(
                    f"the model server's key cannot be read from {self._file} "
                    f"({error.strerror}): mount it there"
                ) from error
        if key:
            request.headers["Authorization"] = f"Bearer {key}"
        yield request
