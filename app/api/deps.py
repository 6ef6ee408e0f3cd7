"""What routes ask for: the caller and the parts made in the lifespan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

import structlog
from fastapi import Depends, Header, Request
from sqlalchemy.ext.asyncio import AsyncEngine

from app.core.auth import Authenticator, User
from app.core.config import Settings
from app.db.login import Login
from app.errors import NotFoundError
from app.rag.engine import RAGEngine
from app.rag.health import Health
from app.rag.library import Library
from app.rag.mem0_keys import KeySource
from app.rag.memory import UserMemory
from app.rag.models import ModelServers
from app.rag.reindexing import Reindexing


@dataclass(frozen=True)
class Parts:
    """Everything that lives as long as the app."""

    settings: Settings
    authenticator: Authenticator
    database: AsyncEngine
    login: Login
    memory_keys: KeySource
    models: ModelServers
    memory: UserMemory
    library: Library
    engine: RAGEngine
    reindexing: Reindexing
    health: Health


def parts(request: Request) -> Parts:
    """The parts of this app."""
    found: Parts = request.app.state.parts
    return found


AppParts = Annotated[Parts, Depends(parts)]


def current_user(
    app: AppParts, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
) -> User:
    """The caller; raises UnauthenticatedError."""
    user = app.authenticator.authenticate(authorization)
    structlog.contextvars.bind_contextvars(user=user.id)
    return user


CurrentUser = Annotated[User, Depends(current_user)]


def uuid_or_not_found(text: str, what: str, field: str | None = None) -> UUID:
    """An id from a path or body; one that is no id names nothing, so it raises NotFoundError."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFoundError(f"there is no {what} {text[:80]!r}", field=field) from None
