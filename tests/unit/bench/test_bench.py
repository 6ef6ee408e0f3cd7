"""The frame of the benchmarks: what a row says, what is kept, which groups there are."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.bench import __main__ as bench
from tests.bench import report
from tests.bench.rows import Row, bound, compare, percentile


def a_row(**changes: Any) -> Row:
    given: dict[str, Any] = {
        "row": "append", "unit": "requests/s", "ours": [90, 100, 500], "peer_name": "peer",
        "peer": [10, 20, 21], "better": "higher", "goal": 5.0,
    }  # fmt: skip
    return compare(**{**given, **changes})


@pytest.mark.parametrize(
    ("changes", "ratio", "met"),
    [
        ({}, 5.0, True),
        ({"goal": 5.1}, 5.0, False),
        ({"better": "lower", "goal": 0.2}, 0.2, True),
        ({"better": "lower", "ours": [10], "peer": [25], "goal": 2}, 2.5, True),
        ({"better": "lower", "ours": [10], "peer": [15], "goal": 2}, 1.5, False),
        ({"better": "lower", "ours": [12], "peer": [10], "goal": None, "at_most": 1.2}, 1.2, True),
        ({"better": "lower", "ours": [13], "peer": [10], "goal": None, "at_most": 1.2}, 1.3, False),
        ({"ours": [1], "peer": [0]}, None, True),
    ],
)
def test_a_row_compares_medians_the_way_its_goal_asks(
    changes: dict[str, Any], ratio: float | None, met: bool
) -> None:
    row = a_row(**changes)
    assert (row.ratio, row.met) == (pytest.approx(ratio) if ratio else None, met)


@pytest.mark.parametrize(("ours", "met"), [(0, True), (1, False)])
def test_a_limit_of_zero_is_a_limit(ours: float, met: bool) -> None:
    row = bound(row="needless writes", unit="writes", ours=[ours], limit=0, better="lower")
    assert row.met is met
    assert report.line(row).endswith("| yes |" if met else "| **no** |")


def test_a_reason_is_given_where_the_goal_is_missed() -> None:
    assert a_row(note="n", reason="r").note == "n"
    assert a_row(note="n", reason="r", goal=9).note == "n; r"


def test_only_a_row_below_its_floor_fails() -> None:
    missed = {"ours": [80], "peer": [20]}
    assert not a_row(**missed).failed
    assert not a_row(**missed, floor=3).failed
    assert a_row(**missed, floor=4.5).failed
    over = {"better": "lower", "goal": None, "at_most": 1.2}
    assert a_row(**over, ours=[20], peer=[10], floor=1.5).failed


@pytest.mark.parametrize("wrong", [{"goal": None}, {"at_most": 1.0}, {"ours": []}])
def test_a_row_that_says_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="append"):
        a_row(**wrong)


def test_a_percentile_is_one_of_the_samples() -> None:
    assert [percentile(range(1, 101), p) for p in (0, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([7.0], 99) == 7.0


def test_rows_of_groups_that_did_not_run_are_kept(tmp_path: Path) -> None:
    data, page = tmp_path / "build" / "bench.json", tmp_path / "docs" / "benchmarks.md"
    for group, name in (("one", "first"), ("two", "other"), ("one", "second")):
        report.write_json(data, group, [a_row(row=name)])
        report.write_page(
            page, group, [a_row(row=name, note="why")], datetime(2026, 1, 2, tzinfo=UTC)
        )
    assert [(row["group"], row["row"]) for row in json.loads(data.read_text())] == [
        ("one", "second"), ("two", "other"),
    ]  # fmt: skip
    text = page.read_text()
    assert "first" not in text
    assert text.index("## one") < text.index("second") < text.index("## two") < text.index("other")
    assert text.count("2026-01-02") == 2
    assert "- second: why" in text
    assert "| 100 requests/s | 20.0 requests/s (peer) | 5.00x | at least 5x | yes |" in text


@pytest.fixture
def one_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[list[str], list[Row]]:
    """The words that run a group ``made`` into files of this test, and the rows it gives."""
    given: list[Row] = []

    def rows() -> Iterator[Row]:
        if not given:
            raise RuntimeError("no database")
        yield from given

    module = ModuleType("tests.bench.made")
    module.rows = rows  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests.bench.made", module)
    monkeypatch.setattr(bench, "groups", lambda: ["made"])
    files = ["--json", str(tmp_path / "b.json"), "--page", str(tmp_path / "b.md")]
    return ["--group", "made", *files], given


def test_a_run_prints_and_keeps_rows(
    one_group: tuple[list[str], list[Row]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, given = one_group
    given.append(a_row(goal=9))
    assert bench.main(words) == 0, "a goal missed is no failure"
    assert "**no**" in capsys.readouterr().out
    assert json.loads((tmp_path / "b.json").read_text())[0]["met"] is False
    given.append(a_row(goal=9, floor=6))
    assert bench.main(words) == 1, "a floor is"


def test_a_group_that_cannot_run_leaves_the_old_rows(
    one_group: tuple[list[str], list[Row]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, given = one_group
    given.append(a_row())
    bench.main(words)
    before = (tmp_path / "b.json").read_text(), (tmp_path / "b.md").read_text()
    given.clear()
    assert bench.main(words) == 1
    assert "no database" in capsys.readouterr().err
    assert before == ((tmp_path / "b.json").read_text(), (tmp_path / "b.md").read_text())


def test_an_unknown_group_is_told_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        bench.main(["--group", "nonsense"])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "nonsense" in said
    assert all(name in said for name in bench.groups())


def test_groups_are_the_modules_that_are_not_the_frame() -> None:
    assert not {"rows", "report", "__main__"} & set(bench.groups())
