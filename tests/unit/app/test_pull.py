"""How far a pull is, which name it pulls, whether it fits, and what is pruned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.pull.names import from_mirror, full, is_same
from app.pull.progress import WINDOW, Progress, State, Stream, line_of, together
from app.pull.prune import lacks, unwanted
from app.pull.server import Held
from app.pull.space import cure, refusal, warning

GIB = 1 << 30


def layer(digest: str, total: int, completed: int | None = None) -> dict[str, object]:
    line: dict[str, object] = {"status": f"pulling {digest}", "digest": digest, "total": total}
    return line if completed is None else line | {"completed": completed}


def test_a_pull_from_its_first_line_to_its_last() -> None:
    stream = Stream()
    stream.take({"status": "pulling manifest"}, 0.0)
    assert stream.progress(0.0) == Progress(State.PULLING)
    stream.take(layer("a", 1000), 0.0)  # `completed` is absent at 0
    assert (stream.progress(0.5).percent, stream.progress(0.5).bytes_per_second) == (0, None)
    stream.take(layer("a", 1000, 500), 5.0)
    found = stream.progress(5.0)
    assert (found.percent, found.bytes_per_second, found.eta_seconds) == (50, 100, 5)
    assert line_of(found) == "pulling, 50 % of 1 kB, 100 B/s, 5 s left"
    stream.take(layer("a", 1000, 1000), 10.0)
    assert stream.progress(10.0).percent == 99  # not before it can be used
    stream.take(layer("b", 1000), 10.0)  # totals are known layer by layer
    assert stream.progress(10.0).percent == 50
    stream.take(layer("b", 1000, 1000), 12.0)
    stream.take({"status": "verifying sha256 digest"}, 12.0)
    found = stream.progress(12.0)
    assert (found.state, found.eta_seconds) == (State.VERIFYING, None)
    assert not stream.succeeded
    stream.take({"status": "success"}, 13.0)
    assert stream.succeeded


def test_what_was_there_before_counts_as_there_but_not_as_speed() -> None:
    stream = Stream()
    stream.take(layer("a", 1000, 800), 0.0)
    stream.take(layer("a", 1000, 820), 2.0)
    found = stream.progress(2.0)
    assert (found.percent, found.bytes_per_second, found.eta_seconds) == (82, 10, 18)
    assert stream.moved == 20


def test_the_rate_is_of_the_last_seconds_and_falls_to_nothing() -> None:
    stream = Stream()
    for second in range(100):
        stream.take(layer("a", 10_000, second * (10 if second < 50 else 20)), float(second))
    found = stream.progress(99.0)
    assert found.bytes_per_second == 20
    stalled = stream.progress(99.0 + WINDOW)
    assert (stalled.bytes_per_second, stalled.eta_seconds) == (0, None)


def test_an_error_line_ends_it() -> None:
    stream = Stream()
    stream.take({"status": "pulling manifest"}, 0.0)
    stream.take({"error": "pull model manifest: file does not exist"}, 0.1)
    assert stream.error == "pull model manifest: file does not exist"
    assert not stream.succeeded


LINES = st.lists(
    st.one_of(
        st.builds(
            layer,
            st.sampled_from(["a", "b", "c"]),
            st.integers(1, 10**12),
            st.none() | st.integers(-5, 2 * 10**12),
        ),
        st.sampled_from(
            [{}, {"status": "pulling manifest"}, {"status": "verifying"}, {"total": "x"}]
        ),
    ),
    max_size=40,
)


@given(lines=LINES, pauses=st.lists(st.floats(0, 30), min_size=40, max_size=40))
def test_whatever_is_streamed_the_progress_makes_sense(
    lines: list[dict[str, object]], pauses: list[float]
) -> None:
    stream, now = Stream(), 0.0
    for line, pause in zip(lines, pauses, strict=False):
        before, now = stream.moved, now + pause
        stream.take(line, now)
        found = stream.progress(now)
        assert 0 <= found.completed <= found.total
        assert 0 <= found.percent <= 99
        assert found.bytes_per_second is None or found.bytes_per_second >= 0
        assert found.eta_seconds is None or found.eta_seconds >= 0
        assert stream.moved >= before
        line_of(found)


@given(
    st.lists(
        st.builds(
            lambda state, total, share, rate: Progress(
                state, "", total * share // 100, total, rate, rate
            ),
            st.sampled_from(State),
            st.integers(0, 10**12),
            st.integers(0, 100),
            st.none() | st.integers(0, 10**9),
        ),
        max_size=5,
    )
)
def test_all_servers_together_are_ready_only_when_each_is(found: list[Progress]) -> None:
    told = together(found)
    assert (told.state is State.READY) is (bool(found) and all(p.percent == 100 for p in found))
    assert (told.percent == 100) is (told.state is State.READY)
    assert told.completed <= told.total
    failed = any(p.state is State.FAILED for p in found)
    assert (told.state is State.FAILED) is failed


def test_one_of_two_servers_has_it() -> None:
    told = together([Progress(State.READY), Progress(State.PULLING, "", 50, 100, 10, 5)])
    assert (told.state, told.percent, told.eta_seconds) == (State.PULLING, 75, 5)
    assert told.message == "1 of 2 servers have it"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gemma3", ("registry.ollama.ai", "library", "gemma3", "latest")),
        ("gemma3:12b", ("registry.ollama.ai", "library", "gemma3", "12b")),
        ("ann/gemma3:12b", ("registry.ollama.ai", "ann", "gemma3", "12b")),
        ("r.example:5000/library/gemma3", ("r.example:5000", "library", "gemma3", "latest")),
        ("r.example/ann/gemma3:12b", ("r.example", "ann", "gemma3", "12b")),
    ],
)
def test_names(name: str, expected: tuple[str, ...]) -> None:
    assert full(name) == expected


def test_a_mirror_stands_in_for_ollamas_own_registry_only() -> None:
    assert from_mirror("gemma3", "m:5000") == "m:5000/library/gemma3:latest"
    assert from_mirror("ann/gemma3:12b", "m") == "m/ann/gemma3:12b"
    assert from_mirror("r.example/ann/gemma3", "m") == "r.example/ann/gemma3"
    assert from_mirror("gemma3", "") == "gemma3"
    assert is_same("Gemma3", "registry.ollama.ai/library/gemma3:latest")
    assert not is_same("gemma3:1b", "gemma3")


def test_what_is_larger_than_the_volume_is_refused_and_what_is_tight_is_told() -> None:
    assert refusal(5 * GIB, 4 * GIB) == (
        "it needs 5.4 GB and the whole volume has 4.3 GB: set ollama.storage.size to more than "
        "5.4 GB"
    )
    assert refusal(4 * GIB, 4 * GIB) == ""
    assert refusal(4 * GIB, 0) == ""  # the size of a volume that was brought is not known
    same = [Held("a", "digest", 3 * GIB), Held("a:copy", "digest", 3 * GIB)]
    assert warning(GIB, 4 * GIB, same) == ""
    assert "may not fit" in warning(2 * GIB, 4 * GIB, same)


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("pull model manifest: file does not exist", "models"),
        ("write /models/blobs/x: no space left on device", "ollama.storage.size"),
        ('Get "https://r/": tls: x509: certificate signed by unknown authority', "insecure"),
        ('Get "https://r/": dial tcp: lookup r: no such host', "proxy"),
    ],
)
def test_a_reason_comes_with_what_to_do(reason: str, word: str) -> None:
    assert word in cure(reason)


def test_only_what_nobody_names_or_uses_is_pruned() -> None:
    held = [Held(n, n, 1) for n in ("chat:latest", "embed:latest", "old:1b", "older:1b")]
    assert unwanted(held, ["chat", "embed"], {"old:1b"}) == (["older:1b"], ["old:1b"])
    assert lacks(held, ["chat", "embed", "new"]) == ["new"]
