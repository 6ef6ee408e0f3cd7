"""Running programs: logs, limits, advice, nothing left behind."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

import pytest

from hack.cluster import free_port
from hack.errors import ClusterUnavailable, CommandFailed, ToolMissing
from hack.process import Log, answer


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "step.log")


def test_output_goes_to_the_log_with_the_command(log: Log) -> None:
    log.run("sh", "-c", "echo out; echo err >&2")
    assert log.path.read_text() == "$ sh -c 'echo out; echo err >&2'\nout\nerr\n"


def test_captured_output_is_returned_and_errors_are_logged(log: Log) -> None:
    assert log.output("sh", "-c", "echo out; echo err >&2") == "out"
    assert "err" in log.path.read_text()


def test_a_program_reads_bytes_or_a_file(log: Log, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from a file")
    log.run("cat", stdin=b"from bytes\n")
    log.run("cat", stdin=tmp_path / "in")
    assert "from bytes" in log.path.read_text()
    assert "from a file" in log.path.read_text()


def test_a_failure_has_command_status_and_log(log: Log) -> None:
    with pytest.raises(CommandFailed) as failure:
        log.run("sh", "-c", "echo broken; exit 7")
    assert "status 7" in failure.value.what
    assert failure.value.log == log.path


def test_a_failing_side_of_a_pipe_fails_it(log: Log) -> None:
    log.pipe(["echo", "x"], ["cat"])
    for source, sink in ((["false"], ["cat"]), (["echo", "x"], ["false"])):
        with pytest.raises(CommandFailed):
            log.pipe(source, sink)


def test_a_hanging_program_is_ended_with_its_children(log: Log, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    begin = time.monotonic()
    with pytest.raises(CommandFailed, match=r"did not finish within 1 s"):
        log.run("sh", "-c", f"sleep 60 & echo $! >{pids}; wait", limit=1)
    assert time.monotonic() - begin < 15
    stat = Path(f"/proc/{int(pids.read_text())}/stat")
    while stat.exists() and stat.read_text().split()[2] != "Z":
        assert time.monotonic() - begin < 15
        time.sleep(0.02)


def test_a_missing_program_is_named(log: Log) -> None:
    with pytest.raises(ToolMissing, match="no-such-program"):
        log.run("no-such-program")


def test_answer_is_none_for_every_kind_of_no() -> None:
    assert answer(sys.executable, "-c", "print('yes')") == "yes"
    assert answer("no-such-program") is None
    assert answer("false") is None
    assert answer("sleep", "5", limit=0.1) is None


def test_environment_is_added_to_ours(log: Log) -> None:
    text = log.output("sh", "-c", 'echo "$EXTRA in $HOME"', env={"EXTRA": "1"})
    assert text == f"1 in {os.environ.get('HOME', '')}"


def test_a_taken_port_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) > port
        with pytest.raises(ClusterUnavailable, match="in use"):
            free_port(port, 1)
