"""Ranking: the boost of documents lately used is visible and bounded."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.rag.chunking import Chunk
from app.rag.embedding import embedded_question, embedded_text
from app.rag.retrieval import MAX_BOOST, boosts, ranked, search_text
from app.rag.types import Hit, Turn

DOCUMENTS = st.sampled_from(["a", "b", "c", "d"])


def hit(chunk: str, document: str, similarity: float) -> Hit:
    return Hit(chunk, document, f"{document}.md", None, None, "text", similarity)


def uses(*documents: str) -> list[dict[str, Any]]:
    return [{"document_id": document} for document in documents]


def test_the_one_used_last_gains_most() -> None:
    boost = boosts(uses("b", "a", "b", "c"))
    assert boost["b"] == MAX_BOOST
    assert MAX_BOOST > boost["a"] > boost["c"] > 0
    assert boosts([]) == {}
    assert boosts([{"data": {}}, {"document_id": 7}]) == {}


def test_it_decides_near_ties_only() -> None:
    hits = [hit("1", "a", 0.700), hit("2", "b", 0.695), hit("3", "b", 0.5)]
    assert [s.document_id for s in ranked(hits, {}, 3)] == ["a", "b", "b"]
    boosted = ranked(hits, boosts(uses("b")), 3)
    assert [s.chunk_id for s in boosted] == ["2", "1", "3"]
    assert (boosted[0].score, boosted[0].boost) == (0.715, MAX_BOOST)
    assert boosted[1].boost == 0


@given(
    hits=st.lists(st.builds(hit, st.uuids().map(str), DOCUMENTS, st.floats(-1, 1)), max_size=30),
    used=st.lists(DOCUMENTS, max_size=20),
    limit=st.integers(1, 10),
)
def test_ranking_properties(hits: list[Hit], used: list[str], limit: int) -> None:
    sources = ranked(hits, boosts(uses(*used)), limit)
    assert [s.number for s in sources] == list(range(1, min(limit, len(hits)) + 1))
    assert [s.score for s in sources] == sorted((s.score for s in sources), reverse=True)
    similarity = {h.chunk_id: h.similarity for h in hits}
    for one in sources:
        assert 0 <= one.boost <= MAX_BOOST
        assert abs(one.score - one.boost - similarity[one.chunk_id]) < 1e-3
    left_out = set(similarity) - {s.chunk_id for s in sources}
    if sources and left_out:
        best_left = max(similarity[chunk] for chunk in left_out)
        assert best_left <= sources[-1].score + MAX_BOOST


def test_short_follow_ups_take_the_question_before_along() -> None:
    earlier = [Turn("user", "How long is parental leave?"), Turn("assistant", "22 weeks")]
    assert search_text("And for adoption?", earlier) == (
        "How long is parental leave?\nAnd for adoption?"
    )
    long = "How many days of annual leave does a new colleague get?"
    assert search_text(long, earlier) == long
    assert search_text("And for adoption?", []) == "And for adoption?"


def test_models_are_given_the_prefixes_they_were_trained_with() -> None:
    chunk = Chunk(0, "Twenty days.", None, "Leave › Annual")
    assert embedded_text("all-minilm:latest", "a.md", chunk) == "a.md: Leave, Annual\nTwenty days."
    for name in ("nomic-embed-text", "library/nomic-embed-text:v1.5"):
        assert embedded_text(name, "a.md", chunk).startswith("search_document: a.md")
        assert embedded_question(name, "Why?") == "search_query: Why?"
    assert embedded_question("all-minilm", "Why?") == "Why?"
