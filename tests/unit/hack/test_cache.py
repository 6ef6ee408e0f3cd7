"""Contents as names, whole folders, one run at a time, and disk space."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from hack import cache
from hack.cache import digest, exclusive, made_whole, need_space
from hack.errors import HackError


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_digest_tells_contents_names_and_modes_apart(tmp_path: Path) -> None:
    one = write(tmp_path / "a", x="1", y="2")
    seen = {digest(one)}
    (one / "x").write_text("3")
    seen.add(digest(one))
    (one / "x").rename(one / "z")
    seen.add(digest(one))
    (one / "z").chmod(0o755)
    seen.add(digest(one))
    assert len(seen) == 4


def test_digest_is_the_same_for_the_same_and_independent_of_place(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "q").mkdir()
    assert digest(write(tmp_path / "p" / "a", x="1")) == digest(write(tmp_path / "q" / "a", x="1"))
    assert len(digest("x")) == 12


def test_digest_does_not_run_parts_together() -> None:
    assert digest("ab", "c") != digest("a", "bc")


def test_a_folder_exists_only_when_it_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "made"

    def fail() -> None:
        with made_whole(folder) as draft:
            (draft / "half").write_text("")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not folder.exists()
    with made_whole(folder) as draft:
        assert list(draft.iterdir()) == []
        (draft / "whole").write_text("")
    assert [p.name for p in folder.iterdir()] == ["whole"]


def test_a_second_run_waits_for_the_first_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cache, "CACHE", tmp_path)
    entered = threading.Event()

    def second() -> None:
        with exclusive("make down"):
            entered.set()

    waiting = threading.Thread(target=second)
    with exclusive("make up"):
        waiting.start()
        assert not entered.wait(0.3)
    assert entered.wait(5)
    waiting.join()
    assert "waiting for another run on this machine: make up (process " in capsys.readouterr().err


def test_too_little_space_is_refused_with_figures(tmp_path: Path) -> None:
    need_space(0.001, tmp_path / "not" / "yet" / "there")
    with pytest.raises(HackError, match=r"free disk space left; this needs 1e\+07 GiB"):
        need_space(1e7, tmp_path)
