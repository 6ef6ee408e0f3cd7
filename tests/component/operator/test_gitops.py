"""A tool that applies the rendered chart over and over does not meet a rotation."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from hack import tools
from tests.component.operator.harness import ROOT
from tests.component.operator.rotating import PURPOSES, Stage, ask, rotation
from tests.component.operator.test_cli import kubeconfig
from tests.component.operator.world import World


class GitOps:
    """A tool that keeps applying what it renders, and looks for differences before each time."""

    def __init__(self, world: World, folder: Path) -> None:
        self._flags = ["--kubeconfig", str(kubeconfig(folder, world.api, world.ns)), "-n", world.ns]
        self.rendered = subprocess.run(
            [str(tools.helm()), "template", "demo", str(ROOT), "-n", world.ns, "--skip-tests"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
        self.rounds = 0
        self.drift: list[str] = []

    def kubectl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(tools.kubectl()), *arguments, *self._flags, "-f", "-"],
            input=self.rendered, capture_output=True, text=True, check=False,
        )  # fmt: skip

    def apply(self) -> None:
        """The whole umbrella chart, by server-side and by client-side apply."""
        for how in (("--server-side", "--force-conflicts", "--field-manager=gitops"), ()):
            done = self.kubectl("apply", *how)
            assert done.returncode == 0, done.stderr
            done = self.kubectl("diff", *how)
            if done.returncode:
                self.drift.append(done.stdout + done.stderr)
        self.rounds += 1


def test_the_chart_applied_again_in_the_middle_changes_nothing(
    world: World, tmp_path: Path, wait: Callable[..., Any]
) -> None:
    """The whole umbrella chart, over and over, as Argo CD and Flux do."""
    tool = GitOps(world, tmp_path)
    documents = [d for d in yaml.safe_load_all(tool.rendered) if d]
    assert {"MetisRAG", "Deployment", "ClusterRole"} <= {d["kind"] for d in documents}
    assert "Secret" not in {d["kind"] for d in documents}
    tool.apply()
    world.until_ready()
    with Stage(world.api, world.ns, "demo", tmp_path).open() as stage:
        stop = threading.Event()

        def reapply() -> None:
            while not stop.is_set():
                tool.apply()

        thread = threading.Thread(target=reapply)
        thread.start()
        try:
            ask(world, "one", "mem0-key", "metis-db")

            def done() -> bool:
                states = [rotation(world, p) for p in ("mem0-key", "metis-db")]
                assert thread.is_alive()
                return all("last" in s and s["phase"] == "Idle" for s in states)

            wait(done, timeout=90)
            after = {p: stage.secret(p) for p in PURPOSES}
        finally:
            stop.set()
            thread.join()
        tool.apply()
        assert tool.rounds >= 3
        assert tool.drift == []
        assert {p: stage.secret(p) for p in PURPOSES} == after
        assert after["mem0-key"].keys() == {"current"}
        assert stage.refused == []
