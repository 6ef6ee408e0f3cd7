"""Rotation under load on the tests' kind cluster, beside what one would do by hand.

By hand: put the new value into the Secret (and the new password into the database), then restart
the deployments, pods one after the other. Both sides run under the same 40 requests a second,
on the same instance with two pods of the app and two of the memory server. It takes the cluster
of ``make test-cluster``, and leaves it as it was.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import yaml

from tests.bench._kind import RUNS, cluster_of_tests, operator
from tests.bench.rows import Row, compare
from tests.e2e.conftest import Cluster
from tests.e2e.load.watch import POD, Sample, p99, steady_load

NAMESPACE, NAME = "bench-rotation", "spin"
BY_HAND = "Secret changed, rolling restart"
SETTLE = 8.0
"""Seconds of load before and after a rotation."""
LIMIT = 180.0


@dataclass(frozen=True)
class Outcome:
    """One rotation under load; latencies in ms."""

    took: float
    failed: Counter[str]
    sent: int
    p99: float
    p99_before: float
    p99_after: float


def rows() -> Iterator[Row]:
    """All rows of the group."""
    cluster = cluster_of_tests()
    with _instance(cluster):
        for component in ("mem0-key", "mem0-db", "metis-db"):
            ours, theirs = [], []
            for _ in range(RUNS):
                ours.append(_measure(cluster, partial(_ask, cluster, component)))
                theirs.append(_measure(cluster, partial(_by_hand, cluster, component)))
            yield from _compare(component, ours, theirs)


def _compare(component: str, ours: list[Outcome], theirs: list[Outcome]) -> Iterator[Row]:
    yield compare(
        row=f"{component}: failed requests while it changes",
        unit="requests",
        ours=[sum(one.failed.total() for one in ours)],
        peer_name=BY_HAND,
        peer=[sum(one.failed.total() for one in theirs)],
        better="lower",
        at_most=0.0,
        note=f"of {RUNS} turns together: {_failures(ours)}, during ours and {SETTLE:.0f} s after "
        f"it; {_failures(theirs)} by hand",
    )
    yield compare(
        row=f"{component}: time until all is on the new one",
        unit="s",
        ours=[one.took for one in ours],
        peer_name=BY_HAND,
        peer=[one.took for one in theirs],
        better="lower",
        goal=1.0,
    )
    yield compare(
        row=f"{component}: 99th percentile of latency while it changes",
        unit="ms",
        ours=[one.p99 for one in ours],
        peer_name=BY_HAND,
        peer=[one.p99 for one in theirs],
        better="lower",
        goal=1.0,
        note=f"before, during, after: {_three(ours)}; by hand {_three(theirs)}",
        reason="two Jobs start a pod each on the node that serves; by hand psql runs in the "
        "database's own pod",
    )


def _measure(cluster: Cluster, rotate: Callable[[], None]) -> Outcome:
    with steady_load(cluster, NAMESPACE, NAME) as load:
        time.sleep(SETTLE)
        begun = time.time()
        rotate()
        ended = time.time()
        time.sleep(SETTLE)
        samples = load.samples()
    before = [s for s in samples if s.sent < begun]
    during = [s for s in samples if begun <= s.sent <= ended]
    after = [s for s in samples if s.sent > ended]
    assert not _failed(before), f"the load fails by itself: {_failed(before)}"
    return Outcome(
        took=ended - begun,
        # What was closed too early fails a little later, too.
        failed=_failed([*during, *after]),
        sent=len(during) + len(after),
        p99=p99(during),
        p99_before=p99(before),
        p99_after=p99(after),
    )


def _failed(samples: list[Sample]) -> Counter[str]:
    return Counter(f"{s.target} {s.result}" for s in samples if s.failed)


def _failures(outcomes: list[Outcome]) -> str:
    """What went wrong in all of them, the commonest first, of how many requests."""
    failed = sum((one.failed for one in outcomes), Counter())
    words = ", ".join(f"{n} x {what}" for what, n in failed.most_common()) or "nothing"
    return f"{words} of {sum(one.sent for one in outcomes)} sent"


def _three(outcomes: list[Outcome]) -> str:
    parts = zip(*((one.p99_before, one.p99, one.p99_after) for one in outcomes), strict=True)
    return ", ".join(f"{median(part):.0f} ms" for part in parts)


def _ask(cluster: Cluster, component: str) -> None:
    """Our way: an annotation, until the status says that it is done."""

    def state() -> dict[str, Any]:
        found = cluster.status(NAMESPACE, NAME).get("rotation", [])
        return next((dict(r) for r in found if r["component"] == component), {})

    before = cluster.wait_for(state, LIMIT, lambda: "the status does not tell of it")
    cluster.kubectl(
        "annotate", "metisrag", NAME, "-n", NAMESPACE, "--overwrite",
        f"rotate.metisrag.dev/{component}={time.time()}",
    )  # fmt: skip
    cluster.wait_for(
        lambda: state().get("phase") == "Idle" and state()["current"] != before["current"],
        LIMIT, lambda: str(state()),
    )  # fmt: skip


def _by_hand(cluster: Cluster, component: str) -> None:
    """The new value into the Secret, and a rolling restart of those who know the old one."""
    if component == "mem0-key":
        _set(cluster, component, current=f"mk_{secrets.token_urlsafe(32)}")
        _restart(cluster, "mem0", "app")
        return
    database, part = {"mem0-db": ("mem0", "mem0"), "metis-db": ("metis", "app")}[component]
    password = secrets.token_urlsafe(32)
    user = cluster.secret(NAMESPACE, f"{NAME}-{component}")["username"]
    cluster.kubectl(
        "exec", "-i", "-n", NAMESPACE, f"{NAME}-{database}-postgres-0", "--",
        "psql", "-q", "-U", "postgres", "-d", database,
        stdin=f"ALTER ROLE {user} PASSWORD '{password}'",
    )  # fmt: skip
    _set(cluster, component, password=password)
    _restart(cluster, part)


def _set(cluster: Cluster, component: str, **values: str) -> None:
    data = {k: base64.b64encode(v.encode()).decode() for k, v in values.items()}
    patch = yaml.safe_dump({"data": data})
    cluster.kubectl(
        "patch", "secret", f"{NAME}-{component}", "-n", NAMESPACE, "--type=merge",
        "--patch-file=/dev/stdin", stdin=patch,
    )  # fmt: skip
    # The load is made to look at once, as ours does: the comparison is about the servers.
    cluster.kubectl("annotate", "pod", POD, "-n", NAMESPACE, "--overwrite", f"look={time.time()}")


def _restart(cluster: Cluster, *parts: str) -> None:
    names = [f"deployment/{NAME}-{part}" for part in parts]
    cluster.kubectl("rollout", "restart", "-n", NAMESPACE, *names)
    for name in names:
        cluster.kubectl("rollout", "status", "-n", NAMESPACE, name, "--timeout=180s", timeout=200)


@contextmanager
def _instance(cluster: Cluster) -> Iterator[None]:
    """A MetisRAG with two pods of each server, and its operator."""
    with operator(cluster, NAMESPACE):
        cluster.metisrag(NAMESPACE, NAME, {"app": {"replicas": 2}, "mem0": {"replicas": 2}})
        cluster.wait_ready(NAMESPACE, NAME)
        yield
