"""What a check of a running instance asks of it, and what its answers must hold. Pure.

Each ``judge`` function says nothing about an answer that is right and raises for one that is not.
The words of the model are never judged: a small model may say anything. What is judged is what was
found, what is cited, and what was remembered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import MetisOperatorError

USER = "helm-test"
"""The user that a check speaks as, so that what it says is remembered of nobody else."""
PREFIX = "helm-test-"
"""What the names of its documents begin with."""
PREFERENCE = "helm test"

Answer = Mapping[str, Any]


class CheckFailedError(MetisOperatorError):
    """A part of the instance does not do what it is for; the message says which and how."""


def document(mark: str) -> tuple[str, str]:
    """Name and text of a document that is about nothing anyone else writes about."""
    text = (
        "The lighthouse of Varnholm\n\n"
        "The keeper of the lighthouse of Varnholm keeps seven grey geese. They are fed with barley "
        f"from the tin with the number {mark}, which stands behind the third step of the stairs.\n"
    )
    return f"{PREFIX}{mark}.txt", text


def first_question(mark: str) -> str:
    """What the document answers; it also tells something to remember."""
    return (
        "Which number has the tin with the barley for the grey geese of the lighthouse keeper of "
        f"Varnholm? My own number is {mark}-mine."
    )


SECOND_QUESTION = "Which number did I tell you was my own?"


def judge_upload(body: Answer) -> str:
    """The id of the one document that was uploaded."""
    documents = body.get("documents") or [{}]
    told = documents[0]
    if told.get("status") != "ready":
        reason = told.get("error") or f"its status is {told.get('status')}"
        raise CheckFailedError(f"ingest: the document was not indexed: {reason}")
    return str(told["id"])


def judge_sources(body: Answer, document_id: str, mark: str) -> None:
    """The document was found for the question, with the passage that answers it."""
    sources: Sequence[Mapping[str, Any]] = body.get("sources") or ()
    ours = [s for s in sources if s.get("document_id") == document_id]
    if not ours:
        names = ", ".join(str(s.get("document_name")) for s in sources) or "nothing"
        raise CheckFailedError(
            "retrieve: the document that holds the answer was not found for a question about it; "
            f"found was {names}. Does the embedding model fit the documents' language?"
        )
    if not any(mark in str(s.get("text")) for s in ours):
        raise CheckFailedError("retrieve: the passage that holds the answer was not found")


def judge_citations(body: Answer, document_id: str) -> str:
    """What is cited is a source that came with the answer; in words, for the log."""
    if not str(body.get("answer") or "").strip():
        raise CheckFailedError("answer: the model said nothing")
    sources = {s["number"]: s for s in body.get("sources") or ()}
    for source in sources.values():
        if not source.get("document_name") or not source.get("chunk_id"):
            raise CheckFailedError(f"cite: source {source['number']} names no document or passage")
    cited = body.get("citations") or []
    unknown = [number for number in cited if number not in sources]
    if unknown:
        raise CheckFailedError(f"cite: the answer cites {unknown}, which came with no source")
    if any(sources[number].get("document_id") == document_id for number in cited):
        return "the answer cites the document"
    if cited:
        return "the answer cites other documents; the model chose so"
    return "the answer names no source by number, as small models do; the sources came with it"


def judge_memory(memory: Answer, mark: str) -> None:
    """What was told in one conversation is known in another one."""
    if memory.get("status") != "ok":
        raise CheckFailedError(
            f"recall: the memory is {memory.get('status')}: the memory server does not serve. See "
            "its pods, and the app's /api/health"
        )
    history = " ".join(str(turn.get("content")) for turn in memory.get("history") or ())
    if f"{mark}-mine" not in history:
        raise CheckFailedError("recall: what was said in one conversation is not known in another")
    if (memory.get("preferences") or {}).get(PREFERENCE) != mark:
        raise CheckFailedError("recall: a preference that was set is not known")


def judge_forgotten(memory: Answer) -> None:
    """Nothing is known any more."""
    if memory.get("history") or memory.get("preferences") or memory.get("interactions"):
        raise CheckFailedError("clean up: something is still remembered of the check")
