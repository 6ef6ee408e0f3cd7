"""A server of models: what the app asks of one, and what all of them have in common.

:mod:`app.rag.ollama` and :mod:`app.rag.openai` speak the two kinds of API. Every method raises
ModelServerError, or ModelMissingError where the server lacks a model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from app.core.config import Settings
from app.core.metrics import MODEL_SERVER_ERRORS
from app.core.trust import trust
from app.errors import ModelMissingError, ModelServerError

PROBE_TIMEOUT = 2.0
"""Seconds for the calls that load no model."""
CONNECT_TIMEOUT = 3.0


@dataclass(frozen=True)
class ChatOptions:
    """What a generation may use: tokens of context, tokens of answer, temperature."""

    context_tokens: int
    answer_tokens: int
    temperature: float


class ModelServer(ABC):
    """One server that answers, embeds, or both."""

    label: str
    """What people call it, at the head of a sentence."""
    setting: str
    """The setting that holds its address."""

    def __init__(
        self, settings: Settings, address: str, client: httpx.AsyncClient | None = None
    ) -> None:
        self._settings = settings
        self._address = address
        self._client = client or httpx.AsyncClient(
            base_url=address,
            verify=trust(settings),
            timeout=httpx.Timeout(PROBE_TIMEOUT, connect=CONNECT_TIMEOUT),
            trust_env=False,  # a proxy meant for the outside must not see the documents
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    @abstractmethod
    def full_name(self, model: str) -> str:
        """The model's name as the server lists it."""

    def lists(self, model: str, listed: Collection[str]) -> bool:
        """Whether ``model`` is among ``listed``, the models as the server names them."""
        return self.full_name(model) in listed

    @abstractmethod
    async def version(self) -> str:
        """How the server describes itself; loads no model."""

    @abstractmethod
    async def models(self) -> list[str]:
        """Full names of the models on the server, sorted."""

    async def digest(self, model: str) -> str | None:
        """What identifies the weights of ``model``; None where the server tells nothing."""
        return None

    @abstractmethod
    def chat(
        self, model: str, messages: Sequence[dict[str, str]], options: ChatOptions
    ) -> AsyncGenerator[str, None]:
        """The answer, piece by piece as the model makes it. Close it to stop the model."""

    async def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text, in order; asked for in batches of EMBEDDING_BATCH_SIZE."""
        vectors: list[list[float]] = []
        size = self._settings.embedding_batch_size
        for start in range(0, len(texts), size):
            batch = list(texts[start : start + size])
            found = await self._embed_batch(model, batch)
            if not isinstance(found, list) or len(found) != len(batch) or not all(found):
                raise ModelServerError(
                    f"{self.label} gave no usable embeddings with {model}; is it an embedding "
                    "model?"
                )
            vectors.extend(found)
        return vectors

    @abstractmethod
    async def _embed_batch(self, model: str, texts: list[str]) -> Any:
        """A list of vectors, if the server answers as it should."""

    @abstractmethod
    def _reason(self, body: Any) -> str:
        """What an error's JSON body says; raises KeyError, TypeError where it is another's."""

    @abstractmethod
    def cure_of_missing(self, model: str) -> str:
        """What to do where the server lacks ``model``."""

    @property
    def _embedding_timeout(self) -> httpx.Timeout:
        return httpx.Timeout(self._settings.embedding_timeout, connect=CONNECT_TIMEOUT)

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
    async def _stream(
        self, path: str, model: str, request: dict[str, Any]
    ) -> AsyncIterator[httpx.Response]:
        """The streamed response to a chat request."""
        timeout = httpx.Timeout(self._settings.chat_timeout, connect=CONNECT_TIMEOUT)
        async with (
            self._errors("chat", model),
            self._client.stream("POST", path, json=request, timeout=timeout) as response,
        ):
            if response.is_error:
                await response.aread()
                raise self._refusal(response, model)
            yield response

    def _broken_off(self, model: str) -> ModelServerError:
        return ModelServerError(
            f"{self.label} broke off the answer of {model}; it may have been restarted or be "
            "short of memory: look at its log, then ask again"
        )

    @asynccontextmanager
    async def _errors(self, operation: str, model: str) -> AsyncIterator[None]:
        """Turn what can go wrong on the wire into our errors, and count it."""
        try:
            yield
        except ModelServerError:
            MODEL_SERVER_ERRORS.labels(operation).inc()
            raise
        except httpx.TimeoutException as error:
            MODEL_SERVER_ERRORS.labels(operation).inc()
            what = f"{operation} with {model}" if model else operation
            raise ModelServerError(
                f"{self.label} at {self._address} did not answer in time ({what}); it may be "
                "loading a model or be overloaded: try again in a moment"
            ) from error
        except httpx.HTTPError as error:
            MODEL_SERVER_ERRORS.labels(operation).inc()
            raise ModelServerError(
                f"{self.label} at {self._address} cannot be reached ({type(error).__name__}); "
                f"check that it runs and that {self.setting} is right"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            MODEL_SERVER_ERRORS.labels(operation).inc()
            raise ModelServerError(
                f"{self._address} does not answer as {self.label} does; check {self.setting}"
            ) from error

    def _refusal(self, response: httpx.Response, model: str) -> ModelServerError:
        try:
            reason = self._reason(response.json())
        except (ValueError, KeyError, TypeError):
            reason = response.text[:200] or response.reason_phrase
        if response.status_code == httpx.codes.NOT_FOUND and model:
            return ModelMissingError(
                f"{self.label} does not have the model {model}; {self.cure_of_missing(model)}"
            )
        return ModelServerError(
            f"{self.label} at {self._address} answered {response.status_code}: {reason}; "
            "try again in a moment, and if it lasts look at its log"
        )
