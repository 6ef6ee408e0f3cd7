"""Keys and passwords rotate under load, and not one request fails."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.load.watch import Load, Sample, p99, steady_load

NAMESPACE = "turning"
NAME = "spin"
COMPONENTS = ("mem0-key", "mem0-db", "metis-db")
LIMIT = 60.0
"""Seconds that a rotation may take."""
REFUSED_WITHIN = 5.0
"""Seconds from the revocation of a key until it opens nothing."""
SEEN: set[str] = set()
"""Every secret value that these tests have come across."""


@pytest.fixture(scope="module")
def turning(cluster: Any, umbrella: str) -> Iterator[str]:
    """An instance with two pods of the app and two of the memory server."""
    cluster.namespace(NAMESPACE)
    cluster.metisrag(NAMESPACE, NAME, {"app": {"replicas": 2}, "mem0": {"replicas": 2}})
    cluster.wait_ready(NAMESPACE, NAME)
    yield NAMESPACE
    cluster.drop_namespace(NAMESPACE)


def secret(cluster: Any, component: str) -> dict[str, str]:
    found: dict[str, str] = cluster.secret(NAMESPACE, f"{NAME}-{component}")
    SEEN.update(v for k, v in found.items() if "username" not in k)
    return found


def state(cluster: Any, component: str) -> dict[str, Any]:
    found = cluster.status(NAMESPACE, NAME).get("rotation", [])
    return next((dict(r) for r in found if r["component"] == component), {})


def turn(cluster: Any, component: str) -> tuple[float, float]:
    """One rotation, asked for by annotation; begin and end, in seconds since the epoch."""
    before = state(cluster, component)
    begun = time.time()
    cluster.kubectl(
        "annotate", "metisrag", NAME, "-n", NAMESPACE, "--overwrite",
        f"rotate.metisrag.dev/{component}={begun}",
    )  # fmt: skip

    def done() -> bool:
        secret(cluster, component)
        now = state(cluster, component)
        changed = now.get("current") != before.get("current")
        return changed and now.get("phase") == "Idle" and "last" in now

    cluster.wait_for(done, 2 * LIMIT, lambda: f"{component}: {state(cluster, component)}")
    return begun, time.time()


def report(name: str, samples: list[Sample], spans: list[tuple[float, float]]) -> None:
    """Print latencies before, during and after the rotations."""
    first, last = spans[0][0], spans[-1][1]
    during = [s for s in samples if any(a <= s.sent <= b for a, b in spans)]
    parts = {
        "before": [s for s in samples if s.sent < first],
        "during": during,
        "after": [s for s in samples if s.sent > last],
    }
    said = ", ".join(f"p99 {part} {p99(found):.0f} ms" for part, found in parts.items())
    took = ", ".join(f"{b - a:.1f}" for a, b in spans)
    print(f"{name}: rotations took {took} s; {len(during)} requests during them; {said}")


def rotate_under_load(cluster: Any, load: Load, component: str, times: int) -> None:
    time.sleep(5)  # a stretch of load before, to compare with
    spans = []
    for _ in range(times):
        old = secret(cluster, component)
        spans.append(turn(cluster, component))
        new = secret(cluster, component)
        assert new.keys() == old.keys()
        assert new != old
    time.sleep(5)
    samples = load.samples()
    report(component, samples, spans)
    failed = [s for s in samples if s.failed]
    assert failed == [], failed[:20]
    for target in ("app", "mem0"):
        sent = [s for s in samples if s.target == target]
        assert len(sent) > 15 * (spans[-1][1] - spans[0][0]), f"too few requests to {target}"
    assert all(b - a < LIMIT for a, b in spans), spans


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_rotation_under_load_fails_nothing(cluster: Any, turning: str, component: str) -> None:
    old = secret(cluster, component)
    with steady_load(cluster, turning, NAME) as load:
        rotate_under_load(cluster, load, component, 1)
    refused(cluster, component, old)


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("component", COMPONENTS)
def test_five_rotations_in_a_row_fail_nothing(cluster: Any, turning: str, component: str) -> None:
    with steady_load(cluster, turning, NAME) as load:
        rotate_under_load(cluster, load, component, 5)


def refused(cluster: Any, component: str, old: dict[str, str]) -> None:
    """The former credential opens nothing: asked of each pod, or of the database."""
    if component != "mem0-key":
        database = "metis" if component == "metis-db" else "mem0"
        pod = f"{NAME}-{database}-postgres-0"
        query = f"SELECT rolcanlogin FROM pg_roles WHERE rolname = '{old['username']}'"
        found = cluster.kubectl(
            "exec", "-n", NAMESPACE, pod, "--", "psql", "-U", "postgres", "-d", database,
            "-Atc", query,
        )  # fmt: skip
        assert found.strip() == "f"
        return
    new = secret(cluster, component)["current"]
    selector = f"app.kubernetes.io/instance={NAME},app.kubernetes.io/component=mem0"
    for pod in cluster.items("pods", "-n", NAMESPACE, "-l", selector):
        with cluster.port_forward(NAMESPACE, f"pod/{pod['metadata']['name']}", 8050) as url:
            for key, code in ((old["current"], 401), (new, 200)):
                answer = httpx.get(f"{url}/status", headers={"X-API-Key": key}, timeout=10)
                assert answer.status_code == code


def test_a_leaked_key_is_closed_within_seconds(cluster: Any, turning: str) -> None:
    old = secret(cluster, "mem0-key")
    begun = time.time()
    cluster.kubectl(
        "annotate", "metisrag", NAME, "-n", NAMESPACE, "--overwrite",
        f"rotate.metisrag.dev/mem0-key={begun} revoke-now",
    )  # fmt: skip

    def closed() -> bool:
        now = cluster.get("secret", f"{NAME}-mem0-key", "-n", NAMESPACE)
        notes = now["metadata"]["annotations"]
        return bool(notes.get("rotation.metisrag.dev/finished")) and "current" in now["data"]

    cluster.wait_for(
        lambda: secret(cluster, "mem0-key")["current"] != old["current"] and closed(),
        30, lambda: str(state(cluster, "mem0-key")),
    )  # fmt: skip
    took = time.time() - begun
    print(f"a key is replaced and closed everywhere within {took:.1f} s of the request")
    refused(cluster, "mem0-key", old)
    cluster.wait_for(
        lambda: state(cluster, "mem0-key").get("phase") == "Idle", 30, lambda: "not idle"
    )


def test_no_secret_value_is_told_anywhere(cluster: Any, turning: str) -> None:
    """Logs of all pods, events, descriptions, resources, metrics: none holds a value."""
    for found in cluster.items("secrets", "-A", "-l", "metisrag.dev/credentials=true"):
        meta = found["metadata"]
        values = cluster.secret(meta["namespace"], meta["name"])
        SEEN.update(v for k, v in values.items() if k not in ("username", "admin-user"))
    told: dict[str, str] = {}
    kinds = "pods,jobs,deployments,statefulsets,configmaps,events,metisrags,networkpolicies"
    told["objects"] = cluster.kubectl("get", kinds, "-A", "-o", "yaml")
    told["descriptions"] = cluster.kubectl("describe", "pods,jobs,secrets,metisrags", "-n", turning)
    for pod in cluster.items("pods", "-A"):
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        for flag in ("", "--previous"):
            command = ["logs", name, "-n", namespace, "--all-containers", *filter(None, [flag])]
            done = subprocess.run(
                [cluster.kubectl_path, *command],
                capture_output=True, text=True, env=cluster.environment, timeout=120, check=False,
            )  # fmt: skip
            told[f"logs of {namespace}/{name} {flag}"] = done.stdout
    for target, namespace, port in (
        ("deploy/metis-operator", "metis", 8080),
        (f"deploy/{NAME}-mem0", turning, 8050),
        (f"deploy/{NAME}-app", turning, 8000),
    ):
        with cluster.port_forward(namespace, target, port) as url:
            told[f"metrics of {target}"] = httpx.get(f"{url}/metrics", timeout=20).text
    values = {v for v in SEEN if len(v) > 12}
    assert len(values) > 5
    for where, text in told.items():
        for value in values:
            assert value not in text, f"a secret value stands in the {where}"
