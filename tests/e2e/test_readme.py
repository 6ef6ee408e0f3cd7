"""The commands that the README gives for a running instance do what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("kubectl -n metis ")
]
FORWARDS = [shlex.split(line) for line in COMMANDS if "port-forward" in line]


def test_there_are_commands_to_try() -> None:
    assert len(FORWARDS) == 5


@pytest.mark.parametrize("words", FORWARDS, ids=lambda words: str(words[-2]))
def test_each_port_forward_reaches_its_service(
    cluster: Any, umbrella: str, words: list[str]
) -> None:
    target, ports = words[-2:]
    with cluster.port_forward(umbrella, target, int(ports.rpartition(":")[2])) as url:
        assert url.startswith("http://127.0.0.1:")


def test_the_admin_key_is_read_as_shown(cluster: Any, umbrella: str) -> None:
    (command,) = [line for line in COMMANDS if "get secret" in line]
    path = str(Path(cluster.kubectl_path).parent)
    key = cluster.run("bash", "-c", f"PATH={path}:$PATH; {command}")
    assert key == cluster.admin_key(umbrella, "metis")


def test_make_ask_streams_an_answer_and_lists_the_sources(
    cluster: Any, umbrella: str, documents: list[dict[str, Any]]
) -> None:
    question = "How many weeks of parental leave does each parent have?"
    printed = cluster.run("make", "-s", "ask", f"Q={question}", f"INSTANCE={umbrella}/metis")
    answer, _, sources = printed.partition("Sources:")
    assert answer.strip()
    assert "[1] leave-policy.md" in sources
    assert "Parental leave" in sources
