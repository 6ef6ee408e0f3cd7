"""Finding facts in messages: mem0ai's pipeline, without its own writing.

mem0ai reads the context, asks the model and embeds what it said. Its store and its history are
replaced for the call by two that only collect, so that the facts become records of ours in one
transaction, and the context is the same for every replica.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from mem0_server.errors import ModelFailedError
from mem0_server.index.library import Library
from mem0_server.index.text import filters_of
from mem0_server.models import MEM0_KIND, READ_ROLES, storable_text
from mem0_server.settings import Settings
from mem0_server.store.jobs import Scope
from mem0_server.store.sql import quoted


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that the model found worth keeping, with its embedding."""

    record_id: UUID
    text: str
    vector: list[float]
    attributed_to: str | None


@dataclass(slots=True)
class _Collector:
    """Stands in for mem0ai's vector store: searches for real, collects what it would insert."""

    store: Any
    facts: list[Fact] = field(default_factory=list)

    def search(self, *, filters: dict[str, Any], **query: Any) -> Any:
        """What is known already, of mem0's own memories only."""
        return self.store.search(filters={**filters, "_kind": quoted(MEM0_KIND)}, **query)

    def insert(
        self, *, vectors: list[list[float]], ids: list[str], payloads: list[dict[str, Any]]
    ) -> None:
        """Collect the rows, but for what cannot be stored as text."""
        for one, vector, payload in zip(ids, vectors, payloads, strict=True):
            try:
                text = storable_text(payload["data"])
            except ValueError:
                continue
            attributed = payload.get("attributed_to")
            who = attributed if isinstance(attributed, str) and "\x00" not in attributed else None
            self.facts.append(Fact(UUID(one), text, vector, who))


@dataclass(slots=True)
class _Context:
    """Stands in for mem0ai's local history: tells what was said lately, keeps nothing."""

    last: list[dict[str, Any]]

    def get_last_messages(self, session_scope: str, limit: int = 10) -> list[dict[str, Any]]:
        """The messages said before these."""
        return self.last[-limit:]

    def save_messages(self, messages: list[dict[str, Any]], session_scope: str) -> None:
        """Nothing: our own transaction stores them."""

    def batch_add_history(self, records: list[dict[str, Any]]) -> None:
        """Nothing: the records themselves are the history."""


async def extract(
    library: Library,
    settings: Settings,
    messages: list[dict[str, Any]],
    last: list[dict[str, Any]],
    scope: Scope,
    prompt: str | None = None,
) -> list[Fact]:
    """The facts in ``messages`` that are not known yet.

    ``last``: what was said before, oldest first. ``prompt``: instructions of the caller's own.

    :raises OllamaError: Ollama is away, has no such model, or takes too long.
    :raises ModelFailedError: the model's answer has not the form that mem0ai asks for.
    """
    if not any(one["role"] in READ_ROLES and one["content"].strip() for one in messages):
        return []
    memory = copy.copy(library.memory)
    collector = _Collector(memory.vector_store)
    memory.vector_store, memory.db = collector, _Context(last)
    ids = filters_of(scope, None)

    def add() -> None:
        from mem0.exceptions import LLMError

        try:
            memory.add(messages, infer=True, prompt=prompt, **ids)
        except LLMError as error:
            # The cause says whether the model is missing or Ollama away.
            raise error.__cause__ or error from None
        except (AttributeError, KeyError, TypeError) as error:
            raise ModelFailedError(
                f"the model {settings.llm_model!r} answered in a form that mem0ai cannot read; "
                "a larger model may do better"
            ) from error

    await library.call(add, within=settings.extraction_timeout)
    return collector.facts
