"""An insert behind FastAPI, and nothing else: no validation, no key, no metrics, no log."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import uvicorn
from fastapi import FastAPI, Request

INSERT = """
INSERT INTO recall (agent_id, human_id, role, content) VALUES ($1, $2, $3, $4)
RETURNING id, role, content, created_at
"""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["BENCH_DSN"], min_size=0, max_size=10) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/agents/{agent_id}/humans/{human_id}/recall", status_code=201)
async def append(request: Request) -> Any:
    body, path = await request.json(), request.path_params
    return dict(
        await request.app.state.pool.fetchrow(
            INSERT, path["agent_id"], path["human_id"], body["role"], body["content"]
        )
    )


if __name__ == "__main__":
    uvicorn.run(
        app,
        host=os.environ["HOST"],
        port=int(os.environ["PORT"]),
        log_config=None,
        access_log=False,
    )
