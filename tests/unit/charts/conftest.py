"""Renders the charts with the real Helm and hands the manifests to the tests."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack import tools

ROOT = Path(__file__).resolve().parents[3]
Manifest = dict[str, Any]


class HelmRefusedError(Exception):
    """Helm ended with an error; the message is what it wrote."""


@dataclass(frozen=True)
class Rendered:
    """What a chart rendered to, hooks included."""

    manifests: tuple[Manifest, ...]

    def one(self, kind: str, name: str) -> Manifest:
        """The only object of that kind and name."""
        found = [m for m in self.manifests if (m["kind"], m["metadata"]["name"]) == (kind, name)]
        assert len(found) == 1, f"{kind} {name}: found {len(found)} times"
        return found[0]

    def kinds(self, kind: str) -> list[Manifest]:
        """All objects of that kind."""
        return [m for m in self.manifests if m["kind"] == kind]

    def pods(self) -> list[tuple[str, dict[str, Any]]]:
        """Name of the workload and its pod template; a Pod is its own."""
        return [
            (f"{m['kind']} {m['metadata']['name']}", template)
            for m in self.manifests
            if (template := _pod_template(m))
        ]


def _pod_template(manifest: Manifest) -> Manifest | None:
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Pod":
        return manifest
    template: Manifest | None = spec.get("jobTemplate", {}).get("spec", spec).get("template")
    return template


def _helm_path() -> str:
    return os.environ.get("METIS_HELM") or str(tools.helm())


@pytest.fixture(scope="session")
def helm() -> Callable[..., str]:
    """Runs helm with arguments in the repository; its output, or HelmRefusedError."""
    path = _helm_path()

    def run(*arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            [path, *arguments], cwd=ROOT, input=stdin, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise HelmRefusedError(done.stderr + done.stdout)
        return done.stdout

    return run


@pytest.fixture(scope="session")
def render(helm: Callable[..., str]) -> Callable[..., Rendered]:
    """``render(values, chart=".", name="demo")``: the manifests, the same call rendered once."""
    known: dict[str, Rendered] = {}

    def run(values: dict[str, Any], chart: str = ".", name: str = "demo") -> Rendered:
        key = json.dumps([values, chart, name], sort_keys=True)
        if key not in known:
            text = helm("template", name, chart, "-n", "rag", "-f", "-", stdin=json.dumps(values))
            manifests = yaml.load_all(text, Loader=yaml.CSafeLoader)
            known[key] = Rendered(tuple(m for m in manifests if m))
        return known[key]

    return run


@pytest.fixture(scope="session")
def stack(render: Callable[..., Rendered]) -> Callable[..., Rendered]:
    """``stack(values)``: charts/stack rendered for an instance named demo."""

    def run(values: dict[str, Any] | None = None, name: str = "demo") -> Rendered:
        return render(values or {}, "charts/stack", name)

    return run


FIXTURES = sorted((ROOT / "tests/fixtures/values").glob("*.yaml"))


@pytest.fixture(params=FIXTURES, ids=[path.stem for path in FIXTURES])
def fixture_values(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The umbrella's values of each mode in tests/fixtures/values."""
    values: dict[str, Any] = yaml.safe_load(request.param.read_text())
    return values


@pytest.fixture
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def refused() -> type[Exception]:
    """The error with which a refused rendering ends."""
    return HelmRefusedError


@pytest.fixture
def all_rendered(render: Callable[..., Rendered], fixture_values: dict[str, Any]) -> list[Rendered]:
    """Each mode as Helm renders it and, where it has a MetisRAG, as an operator would."""
    umbrella = render(fixture_values)
    rendered = [umbrella]
    for instance in umbrella.kinds("MetisRAG"):
        defaults = fixture_values.get("operator", {}).get("defaults", {})
        spec = _merged(defaults, instance["spec"])
        rendered.append(render(spec, "charts/stack"))
    return rendered


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
