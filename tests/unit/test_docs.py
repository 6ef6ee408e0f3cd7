"""The documents keep step with what they document."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

from metis_operator.cli.main import build_parser

ROOT = Path(__file__).parents[2]


def dependencies(groups: dict[str, list[Any]]) -> set[str]:
    """Names of all requirements in pyproject's dependency groups."""
    lines = [line for group in groups.values() for line in group if isinstance(line, str)]
    return {re.split(r"[\[<>=~!]", line)[0].lower() for line in lines}


def test_every_dependency_has_a_reason() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").lower()
    cells = [row.split("|") for row in text.splitlines() if row.startswith("| ")]
    named = {name.strip() for row in cells for name in row[1].split(",")} - {"package"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = {**project["dependency-groups"], "project": project["project"]["dependencies"]}
    assert named == dependencies(groups)


def test_every_relative_link_leads_somewhere() -> None:
    broken = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("app/**/*.md")]:
        for target in re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text("utf-8")):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert broken == []


def test_every_make_command_in_the_documents_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]:
        used = set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", page.read_text("utf-8"), re.MULTILINE))
        assert used <= targets, f"{page.name}: {used - targets}"


def test_every_kubectl_metis_command_in_the_documents_exists() -> None:
    parser = build_parser("kubectl metis")
    commands = [
        line.partition("#")[0]
        for page in [ROOT / "README.md", *ROOT.glob("docs/*.md")]
        for line in page.read_text("utf-8").splitlines()
        if line.startswith("kubectl metis ")
    ]
    assert len(commands) > 5
    for command in commands:
        parser.parse_args(shlex.split(command)[2:])
