"""`helm install` gives the operator, the CRD and one Ready MetisRAG, and keeps its secrets."""

from __future__ import annotations

from typing import Any

COMPONENTS = {"metis-postgres", "mem0-postgres", "mem0", "ollama", "app"}
SECRETS = ["metis-metis-db", "metis-mem0-db", "metis-mem0-key", "metis-auth"]


def test_status_tells_every_component(cluster: Any, umbrella: str) -> None:
    status = cluster.wait_ready(umbrella, "metis")
    assert {c["name"]: c["ready"] for c in status["components"]} == dict.fromkeys(COMPONENTS, True)
    assert status["phase"] == "Ready"
    assert status["endpoint"] == f"http://metis-app.{umbrella}.svc:8000"


def test_two_separate_postgres_statefulsets(cluster: Any, umbrella: str) -> None:
    sets = {s["metadata"]["name"] for s in cluster.items("statefulsets", "-n", umbrella)}
    assert {"metis-metis-postgres", "metis-mem0-postgres"} <= sets
    for name, database in (("metis-postgres", "metis"), ("mem0-postgres", "mem0")):
        owner = cluster.kubectl(
            "exec", "-n", umbrella, f"metis-{name}-0", "-c", name, "--",
            "psql", "-h", "/var/run/postgresql", "-U", "postgres", "-Atc",
            f"select pg_get_userbyid(datdba) from pg_database where datname = '{database}'",
        )  # fmt: skip
        assert owner.strip() == f"{database}_owner"


def test_no_secret_outside_secrets(cluster: Any, umbrella: str, app: Any) -> None:
    values = [
        value
        for name in SECRETS
        for key, value in cluster.secret(umbrella, name).items()
        if key in {"password", "superuser-password", "current", "admin-key", "test-key"}
    ]
    assert len(values) == 7
    everything = cluster.kubectl(
        "get", "all,configmaps,events,metisrags,pvc", "-n", umbrella, "-o", "yaml"
    )
    everything += cluster.helm("get", "all", "metis", "-n", umbrella)
    for pod in cluster.items("pods", "-n", umbrella):
        name = pod["metadata"]["name"]
        everything += cluster.kubectl("logs", name, "-n", umbrella, "--all-containers")
    for value in values:
        assert value not in everything


def test_a_second_upgrade_changes_nothing(cluster: Any, umbrella: str) -> None:
    before = {
        p["metadata"]["name"]: p["metadata"]["uid"] for p in cluster.items("pods", "-n", umbrella)
    }
    credentials = {name: cluster.secret(umbrella, name) for name in SECRETS}
    cluster.helm(
        "upgrade", "metis", ".", "-n", umbrella, "--reuse-values", "--wait", "--timeout", "3m"
    )
    after = {
        p["metadata"]["name"]: p["metadata"]["uid"] for p in cluster.items("pods", "-n", umbrella)
    }
    assert before == after
    assert credentials == {name: cluster.secret(umbrella, name) for name in SECRETS}
