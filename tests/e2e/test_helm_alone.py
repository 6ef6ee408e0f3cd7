"""The stack by Helm alone, without an operator."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.load.watch import steady_load

ROOT = Path(__file__).parents[2]
NAMESPACE = "solo"
ROTATED = ("mem0-key", "mem0-db", "metis-db")
SSA = ("--server-side", "--force-conflicts", "--field-manager=gitops")


def values(cluster: Any) -> str:
    """The stack and no operator."""
    stack = {**cluster.small, "credentials": {"image": cluster.operator_image}, "enabled": True}
    return yaml.safe_dump(
        {"stack": stack, "operator": {"enabled": False}, "instance": {"create": False}}
    )


@pytest.fixture(scope="module")
def solo(cluster: Any) -> Iterator[str]:
    """`helm install solo .` with the stack and no operator."""
    cluster.namespace(NAMESPACE)
    cluster.helm(
        "install", "solo", str(ROOT), "-n", NAMESPACE, "--wait", "--timeout", "4m",
        "-f", "-", stdin=values(cluster), timeout=270,
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


def held(cluster: Any) -> dict[str, dict[str, str]]:
    """What each Secret that rotates holds."""
    return {c: cluster.secret(NAMESPACE, f"solo-{c}") for c in ROTATED}


def test_the_plugin_rotates_everything_and_no_request_fails(cluster: Any, solo: str) -> None:
    before = held(cluster)
    with steady_load(cluster, solo, "solo", rate=5) as load:
        for component in ROTATED:
            told = cluster.metis(
                "rotate", "--release", "solo", "--component", component, "--wait",
                "--timeout", "90", namespace=solo,
            )  # fmt: skip
            assert told.stdout == f"solo/solo has new credentials: {component}\n"
        samples = load.samples()
    after = held(cluster)
    for component in ROTATED:
        assert after[component].keys() == before[component].keys()
        changed = {k for k, v in after[component].items() if before[component][k] != v}
        assert changed == ({"current"} if component == "mem0-key" else {"username", "password"})
    failed = [s for s in samples if s.failed]
    assert failed == [], failed[:20]
    reasons = [e["reason"] for e in cluster.items("events", "-n", solo)]
    assert reasons.count("RotationFinished") == 3


@contextmanager
def applied_over_and_over(cluster: Any) -> Iterator[list[str]]:
    """What a GitOps tool does: it compares and applies what it rendered; gives the differences."""
    rendered = cluster.helm("template", "solo", str(ROOT), "-n", NAMESPACE, "-f", "-",
                            stdin=values(cluster))  # fmt: skip
    kinds = {document["kind"] for document in yaml.safe_load_all(rendered) if document}
    assert "CronJob" in kinds
    assert "Secret" not in kinds
    drift: list[str] = []
    trouble: list[BaseException] = []
    stop, rounds = threading.Event(), 0

    def go_on() -> None:
        nonlocal rounds
        try:
            while not stop.is_set():
                for flags in (SSA, ()):
                    target = ("-n", NAMESPACE, "-f", "-")
                    cluster.kubectl("apply", *flags, *target, stdin=rendered)
                    done = subprocess.run(
                        [cluster.kubectl_path, "diff", *flags, *target],
                        input=rendered, capture_output=True, text=True, timeout=60,
                        env=cluster.environment, check=False,
                    )  # fmt: skip
                    if done.returncode:
                        drift.append(done.stdout + done.stderr)
                rounds += 1
        except BaseException as error:  # noqa: BLE001 - told by the test, not by its thread
            trouble.append(error)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        cluster.wait_for(lambda: rounds or trouble, 60, lambda: "nothing was applied")
        yield drift
        seen = rounds
        cluster.wait_for(lambda: rounds > seen or trouble, 60, lambda: "no round after it")
    finally:
        stop.set()
        thread.join(60)
    assert trouble == []


def test_the_cron_job_rotates_what_is_due_and_git_ops_does_not_mind(
    cluster: Any, solo: str
) -> None:
    before = held(cluster)
    cluster.kubectl(
        "annotate", "secret", "solo-mem0-key", "-n", solo, "--overwrite",
        "rotation.metisrag.dev/rotated=2020-01-01T00:00:00Z",
    )  # fmt: skip
    with applied_over_and_over(cluster) as drift:
        cluster.kubectl("create", "job", "today", "--from=cronjob/solo-rotator", "-n", solo)
        cluster.kubectl(
            "wait", "job/today", "-n", solo, "--for=condition=Complete", "--timeout=120s"
        )
        after = held(cluster)
    assert "mem0-key rotated" in cluster.kubectl("logs", "job/today", "-n", solo)
    assert drift == []
    assert {c for c in ROTATED if after[c] != before[c]} == {"mem0-key"}
    assert after["mem0-key"].keys() == {"current"}
    assert held(cluster) == after, "what was applied has overwritten it"
    assert cluster.admin_key(solo, "solo")


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
