"""What a person sees while long work runs, and when it fails."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from hack import steps
from hack.diagnose import advice
from hack.errors import HackError
from hack.process import Log
from hack.steps import Display, Step, span


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(steps, "LOGS", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s")],
)  # fmt: skip
def test_durations_read_well(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_quick_steps_take_one_line_each() -> None:
    out = io.StringIO()
    steps.run("t", [Step("One", "a", lambda log: "made"), Step("Two", "b", lambda log: "")], out)
    lines = out.getvalue().splitlines()
    assert lines[0].startswith("step  1/2 One: made (")
    assert lines[1].startswith("step  2/2 Two: done (")
    assert lines[2].startswith("done in ")


def test_a_long_step_says_that_it_runs_and_what_it_does() -> None:
    out = io.StringIO()
    display = Display(out, 3, live=False)
    step = Step("Build", "image", lambda log: "")
    display.running(2, step, 1, "")
    display.running(2, step, 21, "compiling kubelet")
    display.done(2, step, 30, "built")
    assert out.getvalue().splitlines() == [
        "step  2/3 Build …",
        "           still at it after 21 s: compiling kubelet",
        "step  2/3 Build: built (30 s)",
    ]


def test_a_terminal_line_is_rewritten_and_never_wraps() -> None:
    out = io.StringIO()
    display = Display(out, 3, live=True)
    display.running(1, Step("Build", "image", lambda log: ""), 5, "x" * 500)
    assert out.getvalue().startswith("\r\x1b[2Kstep  1/3 Build … 5.0 s · xxx")
    assert len(out.getvalue()) < 160
    assert "\n" not in out.getvalue()


def test_a_failure_names_step_component_cause_remedy_and_log() -> None:
    out = io.StringIO()

    def act(log: Log) -> str:
        for number in range(100):
            log.write(f"line {number}")
        raise HackError("the oven is cold", "Light it.")

    later = []
    plan = [Step("Bake", "oven", act), Step("Eat", "table", lambda log: later.append(1) or "")]
    with pytest.raises(steps.StepFailed):
        steps.run("t", plan, out)
    text = out.getvalue()
    assert "step  1/2 Bake: FAILED" in text
    assert "component   oven" in text
    assert "what        the oven is cold" in text
    assert "what to do  Light it." in text
    assert "| line 99" in text
    assert "| line 80" in text
    assert "| line 79" not in text
    assert later == []


def test_a_defect_is_told_without_a_stack_trace_which_is_in_the_log(logs: Path) -> None:
    out = io.StringIO()

    def act(log: Log) -> str:
        raise KeyError("colour")

    with pytest.raises(steps.StepFailed):
        steps.run("t", [Step("Paint", "wall", act)], out)
    assert "unexpected KeyError: 'colour'" in out.getvalue()
    assert "Traceback" in (logs / "t-01.log").read_text()


def test_a_full_disk_is_told_in_words() -> None:
    out = io.StringIO()

    def act(log: Log) -> str:
        raise OSError(28, "No space left on device")

    with pytest.raises(steps.StepFailed):
        steps.run("t", [Step("Write", "disk", act)], out)
    assert "No space left on device" in out.getvalue()
    assert "disk is full" in out.getvalue()


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("write /x: no space left on device", "disk is full"),
        ("Get https://x/: dial tcp: lookup x: no such host", "could not be reached"),
        ("Temporary failure in name resolution", "could not be reached"),
        ("toomanyrequests: You have reached your pull rate limit", "could not be reached"),
        ("x509: certificate signed by unknown authority", "not trusted"),
        ("Got permission denied while trying to connect to the Docker daemon", "docker` group"),
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock", "stopped answering"),
        ("Bind for 127.0.0.1:8000 failed: port is already allocated", "PORT="),
        ("compile: signal: killed", "out of memory"),
    ],
)
def test_known_causes_come_with_advice(line: str, part: str) -> None:
    assert part in (advice(f"before\n{line}\nafter") or "")


def test_unknown_causes_come_without() -> None:
    assert advice("main.go:3: undefined: x") is None
