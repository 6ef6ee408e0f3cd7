"""mem0ai's ``Memory`` behind synchronous FastAPI routes: how its users put it on the network.

The embedder is a function in this process, so it costs the peer as little as one can.
"""

from __future__ import annotations

import hmac
import os
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException
from pydantic import BaseModel

from tests.component.conftest import DIMENSION, embed


class Embedder:
    """mem0ai's interface over the deterministic embedding of the tests."""

    def __init__(self, config: Any = None) -> None:
        self.config = config

    def embed(self, text: str, memory_action: str | None = None) -> list[float]:
        return embed(text)

    def embed_batch(self, texts: list[str], memory_action: str = "add") -> list[list[float]]:
        return [embed(text) for text in texts]


def make_memory(dsn: str, scratch: str) -> Any:
    """A ``Memory`` with pgvector at ``dsn``, its pool and history as they come."""
    os.environ["MEM0_TELEMETRY"] = "false"
    os.environ["MEM0_DIR"] = scratch
    from mem0.memory.main import Memory
    from mem0.utils.factory import EmbedderFactory

    EmbedderFactory.provider_to_class["ollama"] = "tests.bench.mem0.peer.Embedder"
    config = {
        "embedder": {"provider": "ollama", "config": {"embedding_dims": DIMENSION}},
        "llm": {"provider": "ollama", "config": {"model": "none"}},
        "vector_store": {
            "provider": "pgvector",
            "config": {
                "connection_string": dsn,
                "collection_name": "memories",
                "embedding_model_dims": DIMENSION,
            },
        },
        "history_db_path": f"{scratch}/history.db",
    }
    return Memory.from_config(config)


class Said(BaseModel):
    role: str
    content: str


class AddBody(BaseModel):
    messages: list[Said]
    user_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None
    metadata: dict[str, Any] | None = None
    infer: bool = True


def make_app(memory: Any, key: str) -> FastAPI:
    """The routes behind one admin key."""

    def check(x_api_key: str = Header()) -> None:
        if not hmac.compare_digest(x_api_key, key):
            raise HTTPException(401, "wrong key")

    app = FastAPI()

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/memories", dependencies=[Depends(check)])
    def add(body: AddBody) -> Any:
        given = body.model_dump(exclude_none=True)
        return memory.add(messages=given.pop("messages"), **given)

    @app.get("/memories", dependencies=[Depends(check)])
    def get_all(user_id: str, limit: int = 10) -> Any:
        return memory.get_all(filters={"user_id": user_id}, top_k=limit)

    return app


def main() -> None:
    os.makedirs(os.environ["MEM0_DIR"], exist_ok=True)  # noqa: PTH103
    memory = make_memory(os.environ["BENCH_DSN"], os.environ["MEM0_DIR"])
    memory.vector_store.create_col()
    uvicorn.run(
        make_app(memory, os.environ["BENCH_KEY"]),
        host=os.environ["HOST"],
        port=int(os.environ["PORT"]),
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
