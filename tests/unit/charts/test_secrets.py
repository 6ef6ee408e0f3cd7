"""The examples that bring secrets from outside make those that the chart then looks for."""

from __future__ import annotations

import base64
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from metis_operator.core.credentials import BROUGHT_ENTRY

from hack import tools

Made = dict[str, tuple[str, frozenset[str]]]
FILES = (
    "keys.json", "test-key", "memory-key", "documents-db-password", "memory-db-password",
    "dockerconfig.json", "tls.crt", "tls.key",
)  # fmt: skip


@pytest.fixture(scope="module")
def examples() -> Path:
    return Path(__file__).parents[3] / "examples" / "secrets"


@pytest.fixture(scope="module")
def looked_for(stack: Any, examples: Path) -> Made:
    """Type and entries of each Secret that the rendered objects name, but those of our own."""
    rendered = stack(yaml.safe_load((examples / "values.yaml").read_text()))
    found: dict[str, tuple[str, set[str]]] = {}

    def need(name: str, entries: set[str], kind: str = "Opaque") -> None:
        if not name.startswith("demo-"):
            found.setdefault(name, (kind, set()))[1].update(entries)

    for _, template in rendered.pods():
        for volume in template["spec"]["volumes"]:
            if secret := volume.get("secret"):
                need(secret["secretName"], {item["key"] for item in secret.get("items", [])})
        for secret in template["spec"].get("imagePullSecrets", []):
            need(secret["name"], {".dockerconfigjson"}, "kubernetes.io/dockerconfigjson")
    (container,) = rendered.one("Job", "demo-credentials")["spec"]["template"]["spec"]["containers"]
    for flag, word in zip(container["args"], container["args"][1:], strict=False):
        if flag == "--from":
            purpose, _, name = word.partition("=")
            need(name, {BROUGHT_ENTRY[purpose]})
    for tls in rendered.one("Ingress", "demo-app")["spec"]["tls"]:
        need(tls["secretName"], {"tls.crt", "tls.key"}, "kubernetes.io/tls")
    return {name: (kind, frozenset(entries)) for name, (kind, entries) in found.items()}


def _documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def test_six_secrets_are_looked_for(looked_for: Made) -> None:
    assert looked_for["rag-users"] == ("Opaque", {"keys.json", "test-key"})
    assert len(looked_for) == 6


def test_external_secrets_make_them(examples: Path, looked_for: Made) -> None:
    made: Made = {}
    for one in _documents(examples / "external-secrets.yaml"):
        assert (one["apiVersion"], one["kind"]) == ("external-secrets.io/v1", "ExternalSecret")
        target = one["spec"]["target"]
        kind = target.get("template", {}).get("type", "Opaque")
        made[target["name"]] = (kind, frozenset(d["secretKey"] for d in one["spec"]["data"]))
    assert made == looked_for


def test_vault_makes_them(examples: Path, looked_for: Made) -> None:
    made: Made = {}
    for one in _documents(examples / "vault.yaml"):
        assert one["kind"] == "VaultStaticSecret"
        target = one["spec"]["destination"]
        assert target["create"] is True
        templates = target["transformation"]["templates"]
        made[target["name"]] = (target.get("type", "Opaque"), frozenset(templates))
    assert made == looked_for


def test_the_script_for_sealed_secrets_makes_them(
    examples: Path, looked_for: Made, tmp_path: Path
) -> None:
    """With the real kubectl; kubeseal, which needs its controller, only hands on what it gets."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "kubectl").symlink_to(tools.kubectl())
    (programs / "kubeseal").write_text("#!/bin/sh\nexec cat\n")
    (programs / "kubeseal").chmod(0o755)
    values = tmp_path / "values"
    values.mkdir()
    for name in FILES:
        content = '{"auths": {}}' if name == "dockerconfig.json" else f"content of {name}"
        (values / name).write_text(content)
    subprocess.run(
        [str(examples / "sealed.sh"), str(values), "rag"],
        check=True, cwd=tmp_path, timeout=60,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "KUBECONFIG": os.devnull},
    )  # fmt: skip
    made: Made = {}
    for path in tmp_path.glob("sealed-*.yaml"):
        (one,) = _documents(path)
        assert one["metadata"]["namespace"] == "rag"
        made[one["metadata"]["name"]] = (one["type"], frozenset(one["data"]))
    assert made == looked_for
    users = yaml.safe_load((tmp_path / "sealed-rag-users.yaml").read_text())["data"]
    assert base64.b64decode(users["keys.json"]) == b"content of keys.json"


def test_the_page_of_secrets_names_every_secret_that_can_be_brought(root: Path) -> None:
    page = (root / "docs" / "secrets.md").read_text()
    values = yaml.safe_load((root / "charts/stack/values.yaml").read_text())

    def paths(tree: Any, path: str = "") -> Any:
        for key, below in tree.items():
            if isinstance(below, dict):
                yield from paths(below, f"{path}{key}.")
            elif key.endswith(("Secret", "Secrets")):
                yield f"{path}{key}"

    for path in paths(values):
        assert f"`{path}`" in page, path
