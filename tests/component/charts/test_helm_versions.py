"""Every supported Helm makes the same of every mode, and refuses the same."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack import helms, pins, tools

ROOT = Path(__file__).parents[3]
MODES = sorted((ROOT / "tests/fixtures/values").glob("*.yaml"))
Manifests = dict[tuple[str, str], dict[str, Any]]


def program(version: str) -> Path:
    path = helms.path(version)
    assert path.is_file(), f"{path} is missing: run `make test-tools`, which fetches it"
    return path


def run(helm: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(helm), *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


def rendered(helm: Path, mode: Path) -> Manifests:
    done = run(helm, "template", "demo", ".", "-n", "rag", "--include-crds", "-f", str(mode))
    assert done.returncode == 0, done.stderr
    found = [m for m in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if m]
    named = {(m["kind"], m["metadata"]["name"]): m for m in found}
    assert len(named) == len(found)
    return named


@functools.cache
def by_ours(mode: Path) -> Manifests:
    return rendered(tools.helm(), mode)


@pytest.mark.parametrize("version", pins.OTHER_HELMS)
def test_it_is_that_version(version: str) -> None:
    assert f"v{version}" in run(program(version), "version", "--short").stdout


@pytest.mark.parametrize("version", pins.OTHER_HELMS)
@pytest.mark.parametrize("mode", MODES, ids=[mode.stem for mode in MODES])
def test_it_renders_the_same(version: str, mode: Path) -> None:
    assert rendered(program(version), mode) == by_ours(mode)


@pytest.mark.parametrize("version", pins.OTHER_HELMS)
@pytest.mark.parametrize(
    ("sets", "words"),
    [
        ("instanse.x=1", "instanse"),
        ("instance.spec.app.replica=1", "replica"),
        ("stack.enabled=true", "both make an instance"),
    ],
)
def test_it_refuses_what_is_impossible(version: str, sets: str, words: str) -> None:
    done = run(program(version), "template", "demo", ".", "--set", sets)
    assert done.returncode != 0
    assert words in done.stderr


# Helm 3 asks a cluster even for this; what it says is seen where it installs.
@pytest.mark.parametrize("version", [v for v in pins.OTHER_HELMS if not v.startswith("3.")])
@pytest.mark.parametrize("mode", ["default", "solo"])
def test_it_says_the_same_after_an_installation(version: str, mode: str) -> None:
    values = ROOT / "tests/fixtures/values" / f"{mode}.yaml"

    def notes(helm: Path) -> str:
        words = ("install", "demo", ".", "-n", "rag", "--dry-run=client", "-f", str(values))
        done = run(helm, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.partition("NOTES:\n")[2].strip()

    assert notes(program(version)) == notes(tools.helm())
