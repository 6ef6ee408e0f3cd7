"""The embedding models at hand: the one that the settings want, and that of each index."""

from __future__ import annotations

import time
from collections.abc import Sequence

from app.core.config import Settings
from app.errors import ModelServerError
from app.rag.index_change import Index, Model, wrong_length
from app.rag.models import ModelServers

FRESH_SECONDS = 30.0
"""For so long what the server said of a model is taken as it was."""


class EmbeddingModels:
    """Embeds with the model of an index; finds out about the one that is wanted."""

    def __init__(self, settings: Settings, models: ModelServers) -> None:
        self._server = models.embedding
        self._name = settings.default_embedding_model
        self._known: Model | None = None
        self._asked_at = float("-inf")

    @property
    def wanted_name(self) -> str:
        """The wanted model's name as the server lists it."""
        return self._server.full_name(self._name)

    @property
    def known(self) -> Model:
        """The wanted model, as far as it is known without asking."""
        return self._known or Model(self.wanted_name)

    async def wanted(self) -> Model:
        """The wanted model as the server has it; only a new one is made to embed.

        Raises ModelServerError when the server does not answer or lacks it.
        """
        if self._known is not None and time.monotonic() - self._asked_at < FRESH_SECONDS:
            return self._known
        name = self.wanted_name
        digest = await self._server.digest(name)
        if self._known is None or self._known.digest != digest:
            (vector,) = await self._server.embed(name, ["dimensions"])
            self._known = Model(name, digest, len(vector))
        self._asked_at = time.monotonic()
        return self._known

    async def embed(self, index: Index, texts: Sequence[str]) -> list[list[float]]:
        """One vector for each text, made by the model of ``index``.

        Raises ModelServerError, also when the model's vectors do not fit the index any more.
        """
        vectors = await self._server.embed(index.model.name, texts)
        other = next((len(v) for v in vectors if len(v) != index.dimensions), None)
        if other is not None:
            raise ModelServerError(wrong_length(index, other), code="embedding_change_refused")
        return vectors
