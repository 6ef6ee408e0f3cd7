"""The tests' kind cluster for what is measured there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import yaml

from hack import install
from tests.e2e.conftest import ROOT, Cluster, up

RUNS = int(os.environ.get("METIS_BENCH_RUNS", "3"))
"""How often each side takes its turn."""


def cluster_of_tests() -> Cluster:
    """The cluster of ``make test-cluster``, with the images of this checkout."""
    return Cluster(up(), "", install.small_spec(), install.operator_image())


@contextmanager
def operator(cluster: Cluster, namespace: str) -> Iterator[None]:
    """A running operator in a fresh namespace, without an instance."""
    values = {
        "operator": {"image": cluster.operator_image, "defaults": cluster.small},
        "instance": {"create": False},
    }
    cluster.namespace(namespace)
    cluster.helm(
        "install", "bench", str(ROOT), "-n", namespace, "--wait", "--timeout", "3m", "-f", "-",
        stdin=yaml.safe_dump(values),
    )  # fmt: skip
    try:
        yield
    finally:
        cluster.helm("uninstall", "bench", "-n", namespace, "--wait")
        cluster.drop_namespace(namespace)
