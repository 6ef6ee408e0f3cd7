"""Which servers have the models: one that answers and one that embeds, often the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from app.core.config import Settings
from app.rag.model_server import ModelServer
from app.rag.ollama import Ollama, full_name
from app.rag.openai import OpenAI


@dataclass(frozen=True)
class ModelServers:
    """The server of the chat models and that of the embedding model."""

    chat: ModelServer
    embedding: ModelServer

    async def close(self) -> None:
        """Close the connections."""
        await self.chat.close()
        if self.embedding is not self.chat:
            await self.embedding.close()


def model_servers(settings: Settings) -> ModelServers:
    """Clients of the servers that the settings name; nothing is sent yet."""
    chat = (settings.llm_provider_type, settings.openai_base_url, settings.openai_api_key_file)
    kind = settings.embedding_provider_type or settings.llm_provider_type
    url, key = settings.openai_embedding_base_url, settings.openai_embedding_api_key_file
    # A server of its own gets a key of its own: never that of the other.
    embedding = (kind, url, key) if url else (kind, *chat[1:])
    server = _server(settings, *chat)
    if embedding == chat or (kind == "ollama" == settings.llm_provider_type):
        return ModelServers(server, server)
    return ModelServers(server, _server(settings, *embedding))


def embedding_name(settings: Settings) -> str:
    """The wanted embedding model's name as its server lists it."""
    kind = settings.embedding_provider_type or settings.llm_provider_type
    model = settings.default_embedding_model
    return full_name(model) if kind == "ollama" else model


def _server(settings: Settings, kind: str, url: str, key_file: Path | None) -> ModelServer:
    return Ollama(settings) if kind == "ollama" else OpenAI(settings, url, key_file=key_file)
