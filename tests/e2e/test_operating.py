"""docs/operating.md, from its first command to its last, on one instance."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hack import tools

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
COMMANDS = [
    line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()
]
# These end with 2 when they have something to say, which here is for them to decide.
MAY_FIND = ("kubectl metis status", "kubectl metis plan", "kubectl metis doctor")


@pytest.fixture
def environment(cluster: Any, umbrella: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The example instance in its namespace, and a PATH with the tools that the page names."""
    for name, path in (("kubectl", cluster.kubectl_path), ("helm", tools.helm())):
        (tmp_path / name).symlink_to(path)
    cluster.namespace("demo")
    cluster.kubectl("apply", "-n", "demo", "-f", "examples/metisrag.yaml")
    cluster.wait_ready("demo", "demo")
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    yield {**cluster.environment, "PATH": path}
    cluster.drop_namespace("demo")


@pytest.mark.full
@pytest.mark.timeout(900, func_only=True)
def test_the_page_works_as_written(cluster: Any, environment: dict[str, str]) -> None:
    assert len(COMMANDS) > 15
    for command in COMMANDS:
        done = subprocess.run(
            ["bash", "-c", command],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        accepted = (0, 2) if command.startswith(MAY_FIND) else (0,)
        assert done.returncode in accepted, f"{command}\n{done.stdout}{done.stderr}"
        settle(cluster)
    of_demo = ("pvc,secret", "-n", "demo", "-l", "app.kubernetes.io/instance=demo")
    cluster.wait_for(lambda: not cluster.items(*of_demo), 120, lambda: str(cluster.items(*of_demo)))


def settle(cluster: Any) -> None:
    """Wait until the instance is what it was just told to be."""
    found = cluster.get("metisrag", "demo", "-n", "demo")
    if not found:
        return
    spec = found.get("spec", {})
    if spec.get("suspend"):
        cluster.wait_for(
            lambda: cluster.status("demo", "demo").get("phase") == "Suspended",
            120,
            lambda: str(cluster.status("demo", "demo")),
        )
    elif not found["metadata"].get("annotations", {}).get("metisrag.dev/paused"):
        cluster.wait_ready("demo", "demo")
