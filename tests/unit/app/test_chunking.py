"""Chunks: small enough, nothing lost, nothing across a page or section."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.rag.chunking import chunked, spans
from app.rag.documents import Passage

WORDS = st.text(alphabet="ab .\n,", max_size=400)
SIZES = st.integers(2, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1)))


@example(text=" aaaaaaaaaaaa aa", sizes=(14, 13))
@given(text=WORDS, sizes=SIZES)
def test_spans_cover_the_text_in_order(text: str, sizes: tuple[int, int]) -> None:
    size, overlap = sizes
    covered = 0
    starts = [-1]
    for start, end in spans(text, size, overlap):
        assert starts[-1] < start <= covered < end <= len(text), "forward, and no gap"
        assert end - start <= size
        assert covered - start <= overlap
        covered = end
        starts.append(start)
    assert covered == len(text)


@given(
    passages=st.lists(st.builds(Passage, WORDS, st.none() | st.integers(1, 3), st.none())),
    sizes=SIZES,
)
def test_chunks_stay_within_their_passage(passages: list[Passage], sizes: tuple[int, int]) -> None:
    size, overlap = sizes
    chunks = list(chunked(passages, size, overlap))
    assert [chunk.position for chunk in chunks] == list(range(len(chunks)))
    rest = iter(passages)
    passage: Passage | None = None
    for chunk in chunks:
        assert chunk.text
        assert chunk.text == chunk.text.strip()
        while passage is None or chunk.text not in passage.text or chunk.page != passage.page:
            passage = next(rest)
    words = "".join(passage.text for passage in passages).split()
    kept = " ".join(chunk.text for chunk in chunks)
    if overlap == 0 and not any(len(word) > size // 2 for word in words):
        assert "".join(kept.split()) == "".join(words)


def test_cuts_where_a_reader_would_pause() -> None:
    text = "One sentence here. Another one, longer.\n\nA new paragraph begins here and goes on."
    first, *_ = chunked([Passage(text)], 50, 0)
    assert first.text == "One sentence here. Another one, longer."
    sentences = "First part is this. Second part is that. Third part ends."
    assert [c.text for c in chunked([Passage(sentences)], 42, 0)] == [
        "First part is this. Second part is that.",
        "Third part ends.",
    ]


def test_a_fact_on_a_cut_is_whole_in_one_chunk() -> None:
    text = " ".join(f"word{n}" for n in range(200))
    chunks = list(chunked([Passage(text)], 300, 60))
    for one, two in pairwise(chunks):
        shared = one.text[one.text.rindex(two.text.split()[0]) :]
        assert two.text.startswith(shared)
        assert 0 < len(shared) <= 60
        assert shared.startswith("word"), "an overlap begins with a whole word"


def test_text_without_any_pause_is_cut_all_the_same() -> None:
    assert [c.text for c in chunked([Passage("x" * 25)], 10, 3)] == ["x" * 10, "x" * 10, "x" * 5]


def test_page_and_section_are_kept() -> None:
    passages = [Passage("a", page=2, section="s"), Passage("b", page=3)]
    assert [(c.text, c.page, c.section) for c in chunked(passages, 10, 0)] == [
        ("a", 2, "s"),
        ("b", 3, None),
    ]


@pytest.mark.parametrize(("size", "overlap"), [(10, 10), (10, 11), (10, -1), (0, 0)])
def test_impossible_sizes(size: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap"):
        list(chunked([Passage("text")], size, overlap))
