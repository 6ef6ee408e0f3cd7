"""The figures that the operator gives about itself, in Prometheus' format."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()

RECONCILES = Counter(
    "metis_operator_reconciles_total",
    "Reconciles by outcome: settled (nothing to do), acted, stalled, conflict, failed.",
    ["outcome"],
    registry=REGISTRY,
)
RECONCILE_SECONDS = Histogram(
    "metis_operator_reconcile_seconds",
    "Duration of one reconcile, in seconds.",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30),
    registry=REGISTRY,
)
RENDER_SECONDS = Histogram(
    "metis_operator_render_seconds",
    "Duration of one run of helm template, in seconds; what the cache served is not counted.",
    buckets=(0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
    registry=REGISTRY,
)
QUEUE = Gauge(
    "metis_operator_queue_depth",
    "MetisRAGs that wait for a reconcile.",
    registry=REGISTRY,
)
API_CALLS = Counter(
    "metis_operator_api_calls_total",
    "Calls of the API server by verb and HTTP status (0: no answer); watches are not counted.",
    ["verb", "code"],
    registry=REGISTRY,
)
API_UP = Gauge(
    "metis_operator_api_up",
    "1 while the API server answers, 0 while it does not.",
    registry=REGISTRY,
)
OBJECTS = Gauge(
    "metis_operator_objects",
    "MetisRAGs by phase.",
    ["phase"],
    registry=REGISTRY,
)
READY_SECONDS = Histogram(
    "metis_operator_ready_seconds",
    "Time from the moment when a changed spec was seen until its MetisRAG is Ready, in seconds.",
    buckets=(1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800),
    registry=REGISTRY,
)
UPGRADE = Gauge(
    "metis_operator_upgrade",
    "MetisRAGs that an upgrade of the operator has not reached yet, by state: Waiting for their "
    "turn, Rolling, or Failed, which stops the upgrade.",
    ["state"],
    registry=REGISTRY,
)
LEADER = Gauge(
    "metis_operator_leader",
    "1 while this process holds the lease and works, 0 while it stands by.",
    registry=REGISTRY,
)
REPAIRS = Counter(
    "metis_operator_actions_total",
    "Actions carried out on children, by what was done: apply, prune, replace.",
    ["action"],
    registry=REGISTRY,
)

ROTATIONS = Counter(
    "metis_operator_rotations_total",
    "Rotations by component and outcome: succeeded, urgent (revoked at once), stuck (waits too "
    "long; it may still succeed).",
    ["component", "outcome"],
    registry=REGISTRY,
)
ROTATION_SECONDS = Histogram(
    "metis_operator_rotation_phase_seconds",
    "Duration of the phases of rotations, in seconds.",
    ["component", "phase"],
    buckets=(0.5, 1, 2, 5, 10, 20, 30, 60, 120, 600),
    registry=REGISTRY,
)
CREDENTIAL_AGE = Gauge(
    "metis_operator_credential_age_seconds",
    "Time since the credential in use came into use, in seconds.",
    ["namespace", "instance", "component"],
    registry=REGISTRY,
)


def note_rotated(namespace: str, instance: str, component: str, since: float) -> None:
    """Have the age of a credential told; ``since`` is in seconds since the epoch."""
    CREDENTIAL_AGE.labels(namespace, instance, component).set_function(lambda: time.time() - since)


def forget_rotated(namespace: str, instance: str, components: Iterable[str]) -> None:
    """Tell the ages no longer."""
    for component in components:
        with contextlib.suppress(KeyError):
            CREDENTIAL_AGE.remove(namespace, instance, component)


def exposition() -> bytes:
    """All figures as the text that Prometheus scrapes."""
    return generate_latest(REGISTRY)
