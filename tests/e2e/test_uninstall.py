"""Taking everything away, in an order nobody would advise, never hangs."""

from __future__ import annotations

from typing import Any

import pytest

NAMESPACE = "leftover"


@pytest.mark.last
def test_operator_first_then_the_resource_then_the_definition(cluster: Any, umbrella: str) -> None:
    cluster.namespace(NAMESPACE)
    cluster.metisrag(NAMESPACE, "left")
    cluster.wait_for(
        lambda: cluster.get("deployment", "left-app", "-n", NAMESPACE),
        30,
        lambda: f"no children: {cluster.status(NAMESPACE, 'left')}",
    )

    cluster.helm("uninstall", "metis", "-n", umbrella, "--wait", "--timeout", "2m")
    assert cluster.get("crd", "metisrags.metisrag.dev"), "uninstall must keep the definition"
    assert cluster.get("metisrag", "left", "-n", NAMESPACE), "and other people's objects"

    cluster.kubectl("delete", "metisrag", "left", "-n", NAMESPACE, "--wait", timeout=60)
    cluster.wait_for(
        lambda: not cluster.items("deployments,statefulsets,services,pods", "-n", NAMESPACE),
        120,
        lambda: cluster.kubectl("get", "all", "-n", NAMESPACE),
    )
    cluster.drop_namespace(NAMESPACE)
    cluster.kubectl("delete", "crd", "metisrags.metisrag.dev", "--wait", timeout=60)
