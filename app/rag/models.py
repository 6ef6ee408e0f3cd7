"""Which servers have the models: one that answers and one that embeds, often the same."""

from __future__ import annotations

from dataclasses import dataclass

from app.core.config import Settings
from app.rag.model_server import ModelServer
from app.rag.ollama import Ollama
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
    kind, url = settings.llm_provider_type, settings.openai_base_url
    chat = _server(settings, kind, url)
    embedding_kind = settings.embedding_provider_type or kind
    embedding_url = settings.openai_embedding_base_url or url
    if embedding_kind == kind and (kind == "ollama" or embedding_url == url):
        return ModelServers(chat, chat)
    return ModelServers(chat, _server(settings, embedding_kind, embedding_url))


def _server(settings: Settings, kind: str, url: str) -> ModelServer:
    return Ollama(settings) if kind == "ollama" else OpenAI(settings, url)
