"""Keys and passwords rotate under load, and not one request fails."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.e2e.load.refusal import Refusal, former_key
from tests.e2e.load.watch import Load, Sample, p99, steady_load

NAMESPACE = "turning"
NAME = "spin"
COMPONENTS = ("mem0-key", "mem0-db", "metis-db")
LIMIT = 60.0
"""Seconds that a rotation may take."""
REFUSED_WITHIN = 5.0
"""Seconds from the revocation of a key until it opens nothing."""
Opened = dict[str, int]
"""What a key got at each pod of the memory server."""


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


@contextmanager
def asked_with(cluster: Any, component: str, key: str | None) -> Iterator[Refusal | None]:
    """All pods are asked with a key that is about to be revoked, until none accepts it."""
    if key is None or component != "mem0-key":
        yield None
        return
    with former_key(cluster, NAMESPACE, NAME, key) as refusal:
        yield refusal
        cluster.wait_for(
            lambda: all(found and found[-1][1] == 401 for found in refusal.answers.values()),
            REFUSED_WITHIN, lambda: str({p: a[-3:] for p, a in refusal.answers.items()}),
        )  # fmt: skip
    delays = refusal.delays()
    assert len(delays) == 4
    print("refused after", ", ".join(f"{d:.2f} s ({pod})" for pod, d in sorted(delays.items())))
    assert max(delays.values()) < REFUSED_WITHIN, delays


def rotate_under_load(cluster: Any, load: Load, component: str, times: int) -> None:
    time.sleep(5)  # a stretch of load before, to compare with
    spans = []
    for _ in range(times):
        old = secret(cluster, component)
        with asked_with(cluster, component, old.get("current")):
            spans.append(turn(cluster, component))
        new = secret(cluster, component)
        assert new.keys() == old.keys()
        assert new != old
        refused(cluster, component, old)
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
    with steady_load(cluster, turning, NAME) as load:
        rotate_under_load(cluster, load, component, 1)


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
    assert set(opened(cluster, new).values()) == {200}
    assert set(opened(cluster, old["current"]).values()) == {401}


def opened(cluster: Any, key: str) -> Opened:
    """What each pod of the memory server answers to a key."""
    selector = f"app.kubernetes.io/instance={NAME},app.kubernetes.io/component=mem0"
    found = {}
    for pod in cluster.items("pods", "-n", NAMESPACE, "-l", selector):
        name = pod["metadata"]["name"]
        with cluster.port_forward(NAMESPACE, f"pod/{name}", 8050) as url:
            answer = httpx.get(f"{url}/status", headers={"X-API-Key": key}, timeout=10)
            found[name] = answer.status_code
    assert len(found) == 2
    return found


def test_a_leaked_key_is_closed_within_seconds(cluster: Any, turning: str) -> None:
    old = secret(cluster, "mem0-key")
    begun = time.time()
    with asked_with(cluster, "mem0-key", old["current"]):
        cluster.kubectl(
            "annotate", "metisrag", NAME, "-n", NAMESPACE, "--overwrite",
            f"rotate.metisrag.dev/mem0-key={begun} revoke-now",
        )  # fmt: skip

        def closed() -> bool:
            now = cluster.get("secret", f"{NAME}-mem0-key", "-n", NAMESPACE)
            notes = now["metadata"]["annotations"]
            replaced = secret(cluster, "mem0-key")["current"] != old["current"]
            return replaced and bool(notes.get("rotation.metisrag.dev/finished"))

        cluster.wait_for(closed, 30, lambda: str(state(cluster, "mem0-key")))
    print(f"a key is replaced and closed everywhere within {time.time() - begun:.1f} s")
    refused(cluster, "mem0-key", old)
    cluster.wait_for(
        lambda: state(cluster, "mem0-key").get("phase") == "Idle", 30, lambda: "not idle"
    )


def deaf_pod(cluster: Any) -> str:
    """One more pod of the app, whose key never changes: it mounts the file, not the folder."""
    deployment = cluster.get("deployment", f"{NAME}-app", "-n", NAMESPACE)
    template = deployment["spec"]["template"]
    volumes = {
        v["name"]
        for v in template["spec"]["volumes"]
        if (v.get("secret") or {}).get("secretName") == f"{NAME}-mem0-key"
    }
    assert volumes, template["spec"]["volumes"]
    for container in template["spec"]["containers"]:
        for mount in container["volumeMounts"]:
            if mount["name"] in volumes:
                mount |= {"mountPath": f"{mount['mountPath']}/current", "subPath": "current"}
    name = f"{NAME}-app-deaf"
    meta = {"name": name, "namespace": NAMESPACE, "labels": template["metadata"]["labels"]}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]})
    cluster.kubectl(
        "wait", f"pod/{name}", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=120s"
    )
    return name


@pytest.mark.full
def test_a_pod_that_never_confirms_stops_it_and_both_keys_work(cluster: Any, turning: str) -> None:
    old = secret(cluster, "mem0-key")
    deaf = deaf_pod(cluster)
    with steady_load(cluster, turning, NAME) as load:
        cluster.kubectl(
            "annotate", "metisrag", NAME, "-n", NAMESPACE, "--overwrite",
            f"rotate.metisrag.dev/mem0-key={time.time()}",
        )  # fmt: skip

        def named() -> bool:
            condition = cluster.conditions(NAMESPACE, NAME).get("Rotating", {})
            return condition.get("reason") == "NotConfirmed" and deaf in condition["message"]

        cluster.wait_for(named, 120, lambda: str(cluster.conditions(NAMESPACE, NAME)))
        now = secret(cluster, "mem0-key")
        assert now.keys() == {"current", "previous"}
        assert now["previous"] == old["current"] != now["current"]
        assert set(opened(cluster, now["current"]).values()) == {200}
        assert set(opened(cluster, now["previous"]).values()) == {200}
        cluster.kubectl("delete", "pod", deaf, "-n", NAMESPACE, "--wait")
        cluster.wait_for(
            lambda: state(cluster, "mem0-key").get("phase") == "Idle", LIMIT,
            lambda: str(state(cluster, "mem0-key")),
        )  # fmt: skip
        samples = load.samples()
    refused(cluster, "mem0-key", old)
    assert "Rotating" not in cluster.conditions(NAMESPACE, NAME)
    failed = [s for s in samples if s.failed]
    assert failed == [], failed[:20]
