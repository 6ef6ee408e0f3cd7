"""``make ask``: reading the app's events, wording the sources, and saying what went wrong."""

import io
import json
from collections.abc import Iterable
from itertools import pairwise

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hack import ask, reach
from hack.reach import AskError, Exit, Instance


def encoded(*events: tuple[str, dict]) -> bytes:
    text = "".join(
        f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n" for name, data in events
    )
    return text.encode()


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(marks)]


SAID = [("token", {"text": "Zwölf\u2028Tage\x85 [1]"}), ("done", {"answer": "…"})]


@given(st.lists(st.integers(0, 10_000)))
def test_events_are_read_however_the_bytes_are_cut(places):
    assert list(ask.events(ask.lines(cut(encoded(*SAID), places)))) == SAID


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (": comment\n\nevent: a\ndata: {}\n\n", [("a", {})]),
        ('event:a\r\ndata:{"n":\r\ndata:1}\r\n\r\n', [("a", {"n": 1})]),
        ("data: {}\n\n", [("message", {})]),
        ("event: a\n\ndata: {}\n\n", [("message", {})]),
        ('event: cut\ndata: {"half', []),
        ('event: cut\ndata: {"n": 1}\n', []),
    ],
)
def test_the_corners_of_the_event_stream_format(text, expected):
    assert list(ask.events(ask.lines([text.encode()]))) == expected


@pytest.mark.parametrize("data", ["nonsense", "[1]"])
def test_data_that_is_no_object_is_said(data):
    with pytest.raises(AskError, match=r"no event of its own"):
        list(ask.events(ask.lines([f"data: {data}\n\n".encode()])))


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ({"page": 3, "section": None}, "[1] handbook.pdf, page 3"),
        ({"page": None, "section": "Leave"}, '[1] handbook.pdf, section "Leave"'),
        ({"page": 3, "section": "Leave"}, '[1] handbook.pdf, page 3, section "Leave"'),
        ({"page": None, "section": None}, "[1] handbook.pdf"),
        ({"document_name": "a\x1b[31m\nb.md"}, "[1] a[31m b.md"),
    ],
)
def test_a_source_is_one_line_with_its_place(source, line):
    assert ask.source_line({"number": 1, "document_name": "handbook.pdf", **source}) == line


def test_sources_are_listed_by_number():
    sources = [{"number": n, "document_name": f"{n}.md"} for n in (2, 10, 1)]
    assert ask.source_list(sources) == "Sources:\n  [1] 1.md\n  [2] 2.md\n  [10] 10.md\n"
    assert "No document" in ask.source_list([])


def asked(status: int, body: bytes) -> tuple[str, str]:
    """Put a question to an app that answers so; what went to output and to notes."""

    def handle(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/api/chat/stream"
        assert json.loads(request.content) == {"message": "How long?"}
        return httpx.Response(status, content=body)

    out, notes = io.StringIO(), io.StringIO()
    transport = httpx.MockTransport(handle)
    with httpx.Client(base_url="http://app.test", transport=transport) as app:
        try:
            ask.answer(app, "How long?", out, notes)
        except AskError as error:
            return f"{out.getvalue()}|{error.status.name}: {error.what}", notes.getvalue()
    return out.getvalue(), notes.getvalue()


SOURCES = {
    "sources": [{"number": 1, "document_name": "handbook.md", "page": None, "section": "Leave"}]
}


def test_the_answer_comes_first_and_its_sources_after_it():
    body = encoded(
        ("start", {"conversation_id": "c"}),
        ("sources", {**SOURCES, "memory": {"status": "degraded"}}),
        ("token", {"text": "Twelve "}),
        ("token", {"text": "\x1b]0;days [1]."}),
        ("done", {"citations": [1]}),
    )
    out, notes = asked(200, body)
    assert out == 'Twelve ]0;days [1].\n\nSources:\n  [1] handbook.md, section "Leave"\n'
    assert "memory is away" in notes


def test_an_error_in_the_middle_is_an_error_though_the_status_was_200():
    body = encoded(
        ("sources", SOURCES),
        ("token", {"text": "Twelve"}),
        ("error", {"code": "model_server_unavailable", "message": "the model was unloaded"}),
    )
    out, _ = asked(200, body)
    assert (
        out
        == "Twelve\n|ANSWER: the answer failed: the model was unloaded (model_server_unavailable)"
    )


def test_a_stream_that_ends_early_is_said_to_have_broken_off():
    out, _ = asked(200, encoded(("sources", SOURCES), ("token", {"text": "Twel"})))
    assert out == "Twel\n|ANSWER: the answer broke off"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, b'{"error":{"message":"unknown key"}}', "KEY: the app refuses the key (401): unkno"),
        (403, b"{}", "KEY: the app refuses the key (403): no reason given"),
        (503, b"<html>", "ANSWER: the app answered 503: no reason given"),
    ],
)
def test_a_refusal_names_its_reason(status, body, expected):
    assert asked(status, body)[0].startswith(f"|{expected}")


@pytest.mark.parametrize(
    ("text", "instance"),
    [
        ("metis/demo", Instance("metis", "demo")),
        *[(wrong, None) for wrong in ("", "metis", "/demo", "metis/", "a/b/c")],
    ],
)
def test_an_instance_is_a_namespace_and_a_name(text, instance):
    assert Instance.parse(text) == instance


def resource(*conditions: dict, app: bool = False) -> dict:
    components = [{"name": "app", "ready": app}, {"name": "mem0", "ready": False}]
    return {"status": {"conditions": list(conditions), "components": components}}


@pytest.mark.parametrize(
    ("given", "trouble"),
    [
        (resource({"type": "Ready", "status": "True", "message": "fine"}), None),
        (
            resource(
                {"type": "Stalled", "status": "True", "message": "other"},
                {"type": "Ready", "status": "False", "message": "ollama: no node has a GPU"},
            ),
            "ollama: no node has a GPU",
        ),
        (resource({"type": "Ready", "status": "Unknown", "reason": "Waiting"}), "Waiting"),
        ({}, "the operator has not looked at it yet; is it running?"),
    ],
)
def test_why_an_instance_is_not_ready_is_told_in_its_own_words(given, trouble):
    assert reach.not_ready(given) == trouble


def test_an_instance_without_memory_can_still_be_asked():
    assert reach.app_ready(resource(app=True))
    assert not reach.app_ready(resource(app=False))
    assert not reach.app_ready({})


@pytest.mark.parametrize("arguments", [[], [""], ["  "], ["--instance", "metis", "Why?"]])
def test_a_question_or_an_instance_that_is_none_gets_the_usage(arguments, capsys):
    assert ask.main(arguments) == Exit.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert 'make ask Q="your question"' in err


def test_help_tells_usage_environment_and_exit_statuses(capsys):
    with pytest.raises(SystemExit) as left:
        ask.main(["--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("INSTANCE", "METIS_KEY", "5 not_ready", "make ask"))


def test_without_kubectl_it_says_where_to_get_it(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(reach, "BIN", tmp_path)
    assert ask.main(["Why?"]) == Exit.CLUSTER
    assert "make up" in capsys.readouterr().err


def test_its_own_documents_are_the_readme_and_those_under_docs():
    names = [path.relative_to(ask.ROOT).as_posix() for path in ask.own_documents()]
    assert all(name == "README.md" or name.startswith("docs/") for name in names)
    assert any(name.startswith("docs/adr/") for name in names)
