"""From an installation to Ready on the tests' kind cluster, beside kubectl of the same manifests.

Images and models are on the node. The ways take turns, each in a fresh namespace, and all end when
the app's pod is ready, which needs everything else. ``METIS_BENCH_RUNS`` is the number of turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import yaml

from tests.bench._kind import RUNS, cluster_of_tests, operator
from tests.bench.rows import Row, compare
from tests.e2e.conftest import ROOT, Cluster

NAMESPACE, OPERATOR, NAME = "bench-chart", "bench-chart-op", "quick"
PEER = "kubectl apply of the same manifests"
GENERATED = ("auth", "mem0-key", "metis-db", "mem0-db")


@dataclass(frozen=True)
class Took:
    """The seconds until the command came back, and until the app was ready."""

    back: float
    ready: float


def rows() -> Iterator[Row]:
    """All rows of the group."""
    cluster = cluster_of_tests()
    took: dict[str, list[Took]] = {"kubectl": [], "helm": [], "cr": [], "umbrella": []}
    manifests, secrets = _manifests(cluster)
    ways: dict[str, Callable[[], None]] = {
        "kubectl": lambda: cluster.kubectl("apply", "-f", "-", stdin=secrets + manifests) and None,
        "helm": lambda: _helm(cluster),
    }
    for _ in range(RUNS):
        for way, begin in ways.items():
            took[way].append(_timed(cluster, begin))
        took["umbrella"].append(_timed(cluster, lambda: _umbrella(cluster), clean=_uninstall))
    with operator(cluster, OPERATOR):
        for _ in range(RUNS):
            took["cr"].append(_timed(cluster, lambda: cluster.metisrag(NAMESPACE, NAME, {})))
            took["kubectl"].append(_timed(cluster, ways["kubectl"]))
    ready = {way: [t.ready for t in turns] for way, turns in took.items()}
    told = ", ".join(f"{way} {[round(t, 1) for t in times]}" for way, times in ready.items())
    back = {way: median(t.back for t in took[way]) for way in ("helm", "kubectl")}
    hook = (
        f"Helm comes back after {back['helm']:.1f} s, kubectl after {back['kubectl']:.1f} s: Helm "
        "waits for the Job that makes the credentials, while kubectl is given the Secrets; of the "
        "Job's time most is the kubelet's and the controller's until its end is told"
    )
    for way, what, reason in (
        ("helm", "helm install, alone", hook),
        ("cr", "a MetisRAG, the operator running", ""),
    ):
        yield compare(
            row=f"{what}: to Ready",
            unit="s",
            ours=ready[way],
            peer_name=PEER,
            peer=ready["kubectl"],
            better="lower",
            at_most=1.15,
            note=f"medians of {RUNS} turns; all: {told}",
            reason=reason,
        )
    yield compare(
        row="umbrella with a fresh operator: to Ready",
        unit="s",
        ours=ready["umbrella"],
        peer_name=f"{PEER}, and 10 s",
        peer=[t + 10.0 for t in ready["kubectl"]],
        better="lower",
        at_most=1.0,
    )


def _timed(
    cluster: Cluster,
    begin: Callable[[], None],
    clean: Callable[[Cluster], None] | None = None,
) -> Took:
    """What it took from ``begin`` on, in a fresh namespace."""
    cluster.namespace(NAMESPACE)
    try:
        began = time.monotonic()
        begin()
        back = time.monotonic() - began
        app = f"deployment/{NAME}-app"
        cluster.kubectl("wait", "-n", NAMESPACE, "--for=create", app, "--timeout=60s")
        cluster.kubectl(
            "wait", "-n", NAMESPACE, "--for=condition=Available", app, "--timeout=240s", timeout=250
        )
        return Took(back, time.monotonic() - began)
    finally:
        if clean:
            clean(cluster)
        cluster.drop_namespace(NAMESPACE)


def _values(cluster: Cluster) -> dict[str, Any]:
    return {**cluster.small, "credentials": {"image": cluster.operator_image}}


def _manifests(cluster: Cluster) -> tuple[str, str]:
    """What the chart renders for Helm alone without its hooks, and the Secrets that those make."""
    values = yaml.safe_dump(_values(cluster))
    rendered = cluster.helm(
        "template", NAME, str(ROOT / "charts/stack"), "-n", NAMESPACE, "--no-hooks", "-f", "-",
        stdin=values,
    )  # fmt: skip
    cluster.namespace(NAMESPACE)
    try:
        _helm(cluster)
        found = [cluster.get("secret", f"{NAME}-{s}", "-n", NAMESPACE) for s in GENERATED]
    finally:
        cluster.drop_namespace(NAMESPACE)
    kept = [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                key: secret["metadata"][key]
                for key in ("name", "namespace", "labels", "annotations")
                if key in secret["metadata"]
            },
            "data": secret["data"],
        }
        for secret in found
    ]
    return rendered, yaml.safe_dump_all(kept, explicit_start=True) + "---\n"


def _helm(cluster: Cluster) -> None:
    cluster.helm(
        "install", NAME, str(ROOT / "charts/stack"), "-n", NAMESPACE, "-f", "-",
        stdin=yaml.safe_dump(_values(cluster)),
    )  # fmt: skip


def _umbrella(cluster: Cluster) -> None:
    values = {"operator": {"image": cluster.operator_image, "defaults": cluster.small}}
    cluster.helm(
        "install", NAME, str(ROOT), "-n", NAMESPACE, "-f", "-", stdin=yaml.safe_dump(values)
    )


def _uninstall(cluster: Cluster) -> None:
    cluster.helm("uninstall", NAME, "-n", NAMESPACE, "--ignore-not-found", "--wait")
