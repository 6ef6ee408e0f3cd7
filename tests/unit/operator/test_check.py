"""What a check accepts, and the words with which it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from metis_operator.core import check
from metis_operator.core.check import CheckFailedError

MARK = "a1b2c3d4"


def source(number: int = 1, document_id: str = "ours", **more: Any) -> dict[str, Any]:
    return {
        "number": number, "document_id": document_id, "document_name": f"{document_id}.txt",
        "chunk_id": "c", "text": f"the tin {MARK}", **more,
    }  # fmt: skip


def answer(*sources: dict[str, Any], citations: tuple[int, ...] = ()) -> dict[str, Any]:
    return {"answer": "Something.", "sources": list(sources), "citations": list(citations)}


def test_the_document_answers_the_question_and_names_the_mark() -> None:
    name, text = check.document(MARK)
    assert MARK in name
    assert MARK in text
    assert f"{MARK}-mine" in check.first_question(MARK)
    assert MARK not in check.SECOND_QUESTION


def test_an_upload_that_failed_is_told_with_its_reason() -> None:
    assert check.judge_upload({"documents": [{"id": "1", "status": "ready"}]}) == "1"
    failed = {"documents": [{"id": "1", "status": "failed", "error": "no model"}]}
    with pytest.raises(CheckFailedError, match=r"^ingest: .*no model"):
        check.judge_upload(failed)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (answer(), "found was nothing"),
        (answer(source(document_id="other")), "found was other.txt"),
        (answer(source(text="something else")), "passage that holds the answer"),
    ],
)
def test_a_document_that_is_not_found_fails_the_check(body: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckFailedError, match=f"^retrieve: .*{words}"):
        check.judge_sources(body, "ours", MARK)


def test_what_was_found_and_cited_passes_whoever_else_is_cited() -> None:
    both = answer(source(), source(2, "other"), citations=(2,))
    check.judge_sources(both, "ours", MARK)
    assert "other documents" in check.judge_citations(both, "ours")
    assert "cites the document" in check.judge_citations(answer(source(), citations=(1,)), "ours")
    assert "no source by number" in check.judge_citations(answer(source()), "ours")


def test_citations_lead_to_sources_that_came_with_the_answer() -> None:
    with pytest.raises(CheckFailedError, match=r"^cite: the answer cites \[7\]"):
        check.judge_citations(answer(source(), citations=(7,)), "ours")
    with pytest.raises(CheckFailedError, match=r"^cite: source 1 names no document"):
        check.judge_citations(answer(source(document_name="")), "ours")
    with pytest.raises(CheckFailedError, match=r"^answer: "):
        check.judge_citations({"answer": " "}, "ours")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"status": "degraded"}, "the memory is degraded"),
        ({"history": []}, "not known in another"),
        ({"preferences": {}}, "a preference"),
    ],
)
def test_what_is_not_remembered_fails_the_check(changed: dict[str, Any], words: str) -> None:
    known = {
        "status": "ok",
        "history": [{"role": "user", "content": check.first_question(MARK)}],
        "preferences": {check.PREFERENCE: MARK},
    }
    check.judge_memory(known, MARK)
    with pytest.raises(CheckFailedError, match=f"^recall: .*{words}"):
        check.judge_memory({**known, **changed}, MARK)


@pytest.mark.parametrize("left", ["history", "preferences", "interactions"])
def test_what_stays_behind_fails_the_check(left: str) -> None:
    check.judge_forgotten({"status": "ok", "history": [], "preferences": {}})
    with pytest.raises(CheckFailedError, match=r"^clean up: "):
        check.judge_forgotten({left: ["something"]})
