"""Ollama's HTTP API: version, models, embeddings, chat. The only module that speaks it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from app.core.config import Settings
from app.core.metrics import OLLAMA_ERRORS
from app.errors import ModelMissingError, OllamaError

PROBE_TIMEOUT = 2.0
"""Seconds for the calls that load no model."""
CONNECT_TIMEOUT = 3.0


@dataclass(frozen=True)
class ChatOptions:
    """What a generation may use: tokens of context, tokens of answer, temperature."""

    context_tokens: int
    answer_tokens: int
    temperature: float


def full_name(model: str) -> str:
    """The name as Ollama lists it: ``:latest`` stands where no tag does."""
    return model if ":" in model.rsplit("/", 1)[-1] else f"{model}:latest"


class Ollama:
    """One server. Every method raises OllamaError, or ModelMissingError where a model lacks."""

    def __init__(self, settings: Settings, client: httpx.AsyncClient | None = None) -> None:
        self._settings = settings
        self._client = client or httpx.AsyncClient(
            base_url=settings.ollama_base_url,
            timeout=httpx.Timeout(PROBE_TIMEOUT, connect=CONNECT_TIMEOUT),
            trust_env=False,  # a proxy meant for the outside must not see the documents
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def version(self) -> str:
        """The server's version; loads no model."""
        body = await self._json("version", "GET", "/api/version")
        return str(body.get("version", "unknown"))

    async def models(self) -> list[str]:
        """Full names of the models on the server."""
        body = await self._json("tags", "GET", "/api/tags")
        return sorted(full_name(str(entry["name"])) for entry in body.get("models") or [])

    async def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text, in order; asked for in batches of EMBEDDING_BATCH_SIZE."""
        vectors: list[list[float]] = []
        size = self._settings.embedding_batch_size
        for start in range(0, len(texts), size):
            batch = list(texts[start : start + size])
            body = await self._json(
                "embed",
                "POST",
                "/api/embed",
                json={"model": model, "input": batch, "truncate": True},
                timeout=httpx.Timeout(self._settings.embedding_timeout, connect=CONNECT_TIMEOUT),
            )
            found = body.get("embeddings")
            if not isinstance(found, list) or len(found) != len(batch) or not all(found):
                raise OllamaError(
                    f"Ollama gave no usable embeddings with {model}; is it an embedding model?"
                )
            vectors.extend(found)
        return vectors

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
        timeout = httpx.Timeout(self._settings.chat_timeout, connect=CONNECT_TIMEOUT)
        async with (
            self._errors("chat", model),
            self._client.stream("POST", "/api/chat", json=request, timeout=timeout) as response,
        ):
            if response.is_error:
                await response.aread()
                raise self._refusal(response, model)
            finished = False
            async for line in response.aiter_lines():
                if not line.strip():
                    continue
                part: dict[str, Any] = json.loads(line)
                if "error" in part:
                    raise OllamaError(f"Ollama stopped the answer of {model}: {part['error']}")
                text = (part.get("message") or {}).get("content") or ""
                if text:
                    yield text
                finished = finished or bool(part.get("done"))
            if not finished:
                raise OllamaError(
                    f"Ollama broke off the answer of {model}; it may have been restarted or be "
                    "short of memory: look at its log, then ask again"
                )

    async def _json(self, operation: str, method: str, path: str, **kwargs: Any) -> dict[str, Any]:
        model = (kwargs.get("json") or {}).get("model", "")
        async with self._errors(operation, model):
            response = await self._client.request(method, path, **kwargs)
            if response.is_error:
                raise self._refusal(response, model)
            body = response.json()
            if not isinstance(body, dict):
                raise TypeError("no JSON object")
            return body

    @asynccontextmanager
    async def _errors(self, operation: str, model: str) -> AsyncIterator[None]:
        """Turn what can go wrong on the wire into our errors, and count it."""
        address = self._settings.ollama_base_url
        try:
            yield
        except OllamaError:
            OLLAMA_ERRORS.labels(operation).inc()
            raise
        except httpx.TimeoutException as error:
            OLLAMA_ERRORS.labels(operation).inc()
            what = f"{operation} with {model}" if model else operation
            raise OllamaError(
                f"Ollama at {address} did not answer in time ({what}); it may be loading a model "
                "or be overloaded: try again in a moment"
            ) from error
        except httpx.HTTPError as error:
            OLLAMA_ERRORS.labels(operation).inc()
            raise OllamaError(
                f"Ollama at {address} cannot be reached ({type(error).__name__}); check that it "
                "runs and that OLLAMA_BASE_URL is right"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            OLLAMA_ERRORS.labels(operation).inc()
            raise OllamaError(
                f"{address} does not answer as Ollama does; check OLLAMA_BASE_URL"
            ) from error

    def _refusal(self, response: httpx.Response, model: str) -> OllamaError:
        try:
            reason = str(response.json()["error"])
        except (ValueError, KeyError, TypeError):
            reason = response.text[:200] or response.reason_phrase
        if response.status_code == httpx.codes.NOT_FOUND and model:
            return ModelMissingError(
                f"Ollama does not have the model {model}; it may still be pulled, "
                f"else run `ollama pull {model}` on the server"
            )
        address = self._settings.ollama_base_url
        return OllamaError(
            f"Ollama at {address} answered {response.status_code}: {reason}; "
            "try again in a moment, and if it lasts look at its log"
        )
