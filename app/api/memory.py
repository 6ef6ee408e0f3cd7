"""What is remembered of the caller, the preferences they set, and how memory is."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from app.api.deps import AppParts, CurrentUser, Parts
from app.api.text import storable
from app.errors import BadInputError, ForbiddenError, ModelServerError
from app.rag import outbox
from app.rag.mem0_caches import CacheType

router = APIRouter(prefix="/memory", tags=["memory"])

VALUE_LIMIT = 200
NAME_LIMIT = 50
PREFERENCE_LIMIT = 30


class Preferences(BaseModel):
    """How the caller wants to be answered; further names are kept and told to the model."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str] = Field(init=False)

    model: str | None = Field(None, max_length=VALUE_LIMIT)
    style: str | None = Field(None, max_length=VALUE_LIMIT)
    language: str | None = Field(None, max_length=VALUE_LIMIT)

    @model_validator(mode="after")
    def _bounded(self) -> Preferences:
        extra = self.__pydantic_extra__
        if len(extra) > PREFERENCE_LIMIT:
            raise ValueError(f"at most {PREFERENCE_LIMIT} preferences")
        for name, value in extra.items():
            if not 0 < len(storable(name)) <= NAME_LIMIT:
                raise ValueError(f"a name has 1 to {NAME_LIMIT} characters")
            if len(storable(value)) > VALUE_LIMIT:
                raise ValueError(f"{name} has at most {VALUE_LIMIT} characters")
        return self

    @field_validator("model", "style", "language")
    @classmethod
    def _storable(cls, value: str | None) -> str | None:
        return value if value is None else storable(value).strip()

    def chosen(self) -> dict[str, str]:
        """Those that say something."""
        return {name: value for name, value in self.model_dump().items() if value}


@router.get("")
async def overview(app: AppParts, user: CurrentUser) -> dict[str, Any]:
    """All that long-term memory would bring to the caller's next question."""
    found = await app.memory.overview(user.id)
    return found.as_dict() | {"interactions": [dict(one) for one in found.interactions]}


@router.put("/preferences")
async def set_preferences(
    preferences: Preferences, app: AppParts, user: CurrentUser
) -> dict[str, Any]:
    """Replace the caller's preferences."""
    _must_be_on(app)
    chosen = preferences.chosen()
    if "model" in chosen:
        await _check_model(app, chosen["model"])
    await app.memory.keep_preferences(user.id, chosen)
    return {"preferences": chosen}


@router.delete("", status_code=204)
async def forget(app: AppParts, user: CurrentUser) -> None:
    """Delete all that long-term memory holds of the caller, what is on its way there included.

    Where Mem0 is away it deletes when it is back; until then nothing of it is shown any more.
    """
    _must_be_on(app)
    await app.memory.forget(user.id)


@router.get("/stats")
async def stats(app: AppParts, user: CurrentUser) -> dict[str, Any]:
    """How memory is: its state, what waits for it, and the caches of the replica that answers."""
    waiting = await outbox.state(user.id)
    return {
        "status": await app.memory.status(),
        "waiting": waiting.own,
        "backlog": {
            "waiting": waiting.waiting,
            "parked": waiting.parked,
            "oldest_seconds": round(waiting.oldest_seconds, 1),
        },
        "caches": await app.memory.caches(),
    }


@router.delete("/caches", status_code=204)
async def clear_caches(
    app: AppParts,
    user: CurrentUser,
    cache: Annotated[CacheType | None, Query(alias="type")] = None,
) -> None:
    """Empty one cache, or all of them, on every replica; for admins."""
    if not user.is_admin:
        raise ForbiddenError("only an admin may clear the caches")
    _must_be_on(app)
    await app.memory.clear_cache(cache)


def _must_be_on(app: Parts) -> None:
    if not app.memory.is_on:
        raise BadInputError(
            "long-term memory is switched off here (USE_MEM0), so there is nothing to remember "
            "or to forget",
            code="memory_off",
        )


async def _check_model(app: AppParts, model: str) -> None:
    try:
        have = await app.models.chat.models()
    except ModelServerError:
        return  # a question checks it again and falls back to the default
    if not app.models.chat.lists(model, have):
        raise BadInputError(
            f"model: the server does not have {model}; choose one of {', '.join(have)}",
            field="model",
        )
