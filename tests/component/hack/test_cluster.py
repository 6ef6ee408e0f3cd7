"""A cluster whose node does not start again: made anew for tests, left alone where data may be.

Docker and kind are stand-ins that write down what they were asked: a real engine's node is started,
removed and made by the end-to-end tests' own cluster.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hack import cluster, tools
from hack.cluster import DEFAULT, TESTS, Cluster
from hack.errors import ClusterUnavailable, CommandFailed
from hack.process import Log

_DOCKER = """#!/bin/sh
echo "docker $*" >> "$ASKED"
case "$*" in "container inspect"*) echo exited;; start*) echo "cannot mount" >&2; exit 1;; esac
"""
_KIND = """#!/bin/sh
echo "kind $*" >> "$ASKED"
case "$*" in create*) exit 1;; esac
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of what docker (no node starts) and kind (none can be made) were asked."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("docker", _DOCKER), ("kind", _KIND)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    monkeypatch.setattr(tools, "kind", lambda _log=None: folder / "kind")
    monkeypatch.setattr(cluster.audit, "write", lambda: None)
    return tmp_path / "asked"


def test_the_cluster_of_the_tests_is_made_anew(asked: Path, tmp_path: Path) -> None:
    log = Log(tmp_path / "step.log")
    with pytest.raises(CommandFailed, match="create cluster"):
        cluster.ensure(log, Cluster(TESTS, tmp_path / "kubeconfig"), port=None, online=True)
    verbs = [" ".join(line.split()[:2]) for line in asked.read_text().splitlines()]
    assert verbs == ["docker container", "docker start", "kind delete", "kind create"]
    assert "removing a cluster of the tests that does not work any more" in log.path.read_text()


def test_a_cluster_with_data_is_left_and_the_way_out_is_told(asked: Path, tmp_path: Path) -> None:
    with pytest.raises(ClusterUnavailable, match="does not start again") as told:
        cluster.ensure(Log(tmp_path / "step.log"), DEFAULT, port=8000, online=True)
    assert "make down" in told.value.todo
    assert "cannot mount" in (tmp_path / "step.log").read_text()
    assert "kind" not in asked.read_text()
