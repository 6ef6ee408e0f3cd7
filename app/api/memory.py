"""What is remembered of the caller, and the preferences they set."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from app.api.deps import AppParts, CurrentUser
from app.api.text import storable
from app.errors import BadInputError, OllamaError, UnavailableError
from app.rag.ollama import full_name

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
    if not app.memory.is_on:
        raise BadInputError(
            "long-term memory is switched off here (USE_MEM0), so nothing can be remembered",
            code="memory_off",
        )
    chosen = preferences.chosen()
    if "model" in chosen:
        await _check_model(app, chosen["model"])
    if not await app.memory.keep_preferences(user.id, chosen):
        raise UnavailableError(
            "long-term memory does not answer now, so the preferences were not saved; try again "
            "in a moment",
            code="memory_unavailable",
        )
    return {"preferences": chosen}


async def _check_model(app: AppParts, model: str) -> None:
    try:
        have = await app.ollama.models()
    except OllamaError:
        return  # a question checks it again and falls back to the default
    if full_name(model) not in have:
        raise BadInputError(
            f"model: the server does not have {model}; choose one of {', '.join(have)}",
            field="model",
        )
