"""The stack by Helm alone, without an operator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
NAMESPACE = "solo"


@pytest.fixture(scope="module")
def solo(cluster: Any) -> Iterator[str]:
    """`helm install solo .` with the stack and no operator."""
    cluster.namespace(NAMESPACE)
    values = {"stack": {**cluster.small, "credentials": {"image": cluster.operator_image}}}
    cluster.helm(
        "install", "solo", str(ROOT), "-n", NAMESPACE, "--wait", "--timeout", "4m",
        "--set", "stack.enabled=true,operator.enabled=false,instance.create=false",
        "-f", "-", stdin=yaml.safe_dump(values), timeout=270,
    )  # fmt: skip
    yield NAMESPACE
    cluster.drop_namespace(NAMESPACE)


def test_answers_without_an_operator(cluster: Any, solo: str, upload: Any, ask: Any) -> None:
    assert cluster.items("metisrags", "-n", solo) == []
    with cluster.app(solo, "solo") as client:
        upload(client)
        body = ask(client, "How many days of annual leave does an employee have?")
    assert body["sources"]
    assert body["memory"]["status"] == "ok"


def test_upgrade_keeps_credentials_and_uninstall_keeps_data(cluster: Any, solo: str) -> None:
    key = cluster.admin_key(solo, "solo")
    cluster.helm(
        "upgrade", "solo", str(ROOT), "-n", solo, "--reuse-values", "--wait", "--timeout", "3m"
    )
    assert cluster.admin_key(solo, "solo") == key
    cluster.helm("uninstall", "solo", "-n", solo, "--wait", "--timeout", "2m")
    assert len(cluster.items("pvc", "-n", solo)) == 3
    assert cluster.admin_key(solo, "solo") == key
    assert not cluster.items("deployments,statefulsets,services,jobs,roles", "-n", solo)
