"""From hits to sources: ranking, the bounded boost of documents lately used. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from app.rag.types import Hit, Source, Turn

MAX_BOOST = 0.02
"""What use can add to a cosine similarity at most: it decides between near ties, no more."""
SHORT_QUESTION_WORDS = 5
"""A question of so few words leans on the one before it."""


def search_text(question: str, conversation: Sequence[Turn]) -> str:
    """What to search for: a short follow-up is searched together with the question before it."""
    if len(question.split()) <= SHORT_QUESTION_WORDS:
        earlier = next((t.content for t in reversed(conversation) if t.role == "user"), None)
        if earlier:
            return f"{earlier[:500]}\n{question}"
    return question


def boosts(interactions: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Boost by document id: MAX_BOOST for the one used last, less for each one before it.

    ``interactions`` are newest first, as the memory client gives them.
    """
    order: list[str] = []
    for interaction in interactions:
        document = interaction.get("document_id")
        if isinstance(document, str) and document not in order:
            order.append(document)
    return {
        document: round(MAX_BOOST * (1 - rank / len(order)), 4)
        for rank, document in enumerate(order)
    }


def ranked(hits: Sequence[Hit], boost: Mapping[str, float], limit: int) -> list[Source]:
    """The ``limit`` best hits as numbered sources, by similarity plus boost."""
    scored = sorted(
        ((hit.similarity + boost.get(hit.document_id, 0.0), hit) for hit in hits),
        key=lambda pair: (-pair[0], pair[1].chunk_id),
    )
    return [
        Source(
            number=number,
            document_id=hit.document_id,
            document_name=hit.document_name,
            chunk_id=hit.chunk_id,
            page=hit.page,
            section=hit.section,
            text=hit.text,
            score=round(score, 4),
            boost=boost.get(hit.document_id, 0.0),
        )
        for number, (score, hit) in enumerate(scored[:limit], 1)
    ]
