"""Parsers: the right text under the right page and section, and clear refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from app.errors import DocumentError
from app.rag.documents import Passage, media_type_of, parse
from app.rag.documents.passage import cleaned

DATA = Path(__file__).parents[2] / "data"
QUESTIONS = yaml.safe_load((DATA / "questions.yaml").read_text(encoding="utf-8"))


def sections(name: str, text: str) -> list[tuple[str | None, str]]:
    return [(p.section, p.text) for p in parse(name, text.encode())]


@pytest.mark.parametrize("case", QUESTIONS, ids=lambda case: case["question"])
def test_the_documents_answer_their_questions_where_they_say(case: dict[str, str]) -> None:
    name = case["document"]
    passages = parse(name, (DATA / name).read_bytes())
    places = [p for p in passages if case["answer"] in f"{p.section} {' '.join(p.text.split())}"]
    assert places, "the answer must stand in the document"
    assert any(
        case.get("page", p.page) == p.page and case.get("section", "") in (p.section or "")
        for p in places
    )


def test_every_document_has_a_question_and_the_other_way_round() -> None:
    documents = {path.name for path in DATA.iterdir() if path.suffix != ".yaml"}
    assert {case["document"] for case in QUESTIONS} == documents


def test_markdown_headings_make_the_path() -> None:
    text = (
        "before\n# A *big* one\nunder a\n### Deep `x` ###\nunder deep\n## [Link](to) b\nunder b\n"
        "#not a heading\n# C\n"
    )
    assert sections("a.md", text) == [
        (None, "before"),
        ("A big one", "under a"),
        ("A big one › Deep x", "under deep"),
        ("A big one › Link b", "under b\n#not a heading"),
    ]


def test_markdown_underlined_headings_and_rules() -> None:
    text = "Title\n===\none\n\nSub\n---\ntwo\nlines\n---\n\n- item\n---\n\n---\nend\n"
    assert sections("a.md", text) == [
        ("Title", "one"),
        ("Title › Sub", "two\nlines\n---\n\n- item\n---\n\n---\nend"),
    ]


def test_markdown_fences_and_front_matter() -> None:
    fences = "```sh\n# a comment\n~~~\n```\n~~~~\n# b\n~~~\n~~~~"
    text = f"---\nkey: # not text\n---\n# Top\n{fences}\n# End\nx"
    assert sections("a.md", text) == [("Top", fences), ("End", "x")]


def test_html_is_what_a_reader_sees() -> None:
    text = """<html><head><title>no</title></head><body>loose <b>te</b>xt
    <h2>One<br>more</h2><p>First&nbsp;para</p><p>Second</p>tail<nav>menu</nav>
    <ul><li>a<li>b</ul><!-- hidden --><script>x()</script>
    <table><tr><th>k</th><th>v</th></tr><tr><td>1</td><td>2</td></tr></table>
    <pre>  keep
  this</pre><h1>Top</h1><div>after <span>it</span></div></body></html>"""
    assert sections("a.html", text) == [
        (None, "loose text"),
        ("One more", "First para\nSecond\ntail\n- a\n- b\nk | v\n1 | 2\nkeep\nthis"),
        ("Top", "after it"),
    ]


def test_html_says_its_encoding() -> None:
    text = '<meta charset="iso-8859-1"><p>Müller'
    assert parse("a.html", text.encode("iso-8859-1")) == [Passage("Müller")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_text_encodings(encoding: str) -> None:
    assert parse("a.txt", "naïve – café\r\nzwei".encode(encoding)) == [
        Passage("naïve – café\nzwei")
    ]


def test_media_types_by_ending() -> None:
    assert media_type_of("A.PDF") == "application/pdf"
    assert media_type_of("notes.Markdown") == "text/markdown"
    assert media_type_of("archive.tar.gz") == "application/octet-stream"
    assert media_type_of("README") == "application/octet-stream"


@given(data=st.binary(max_size=300), ending=st.sampled_from(["txt", "md", "html", "csv", "pdf"]))
def test_any_bytes_give_clean_text_or_a_clear_error(data: bytes, ending: str) -> None:
    name = f"file.{ending}"
    complaint, passages = "", []
    try:
        passages = parse(name, data)
    except DocumentError as error:
        complaint = error.message
    assert passages or name in complaint
    for passage in passages:
        assert passage.text == cleaned(passage.text) != ""


@given(st.text())
def test_cleaned_text_can_be_stored(text: str) -> None:
    result = cleaned(text)
    assert "\x00" not in result
    assert "\r" not in result
    result.encode("utf-8")
    assert cleaned(result) == result


def test_deeply_nested_html_is_no_trouble() -> None:
    text = "<div>" * 20_000 + "deep"
    assert parse("a.html", text.encode()) == [Passage("deep")]
