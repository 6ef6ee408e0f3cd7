"""Trouble as Kubernetes reports it, and what a person reads on the MetisRAG."""

from __future__ import annotations

from typing import Any

import pytest
from metis_operator.core import names
from metis_operator.core.health import Component, components
from metis_operator.core.objects import DEPLOYMENT, POD, PVC, STATEFUL_SET, Key, Kind, Object
from metis_operator.core.pods import Severity, shorten

IMAGE = "ghcr.io/metis-rag/app:0.1.0"


def labels(component: str) -> dict[str, str]:
    return names.selector_labels("demo", component)


def workload(kind: Kind, component: str, *, ready: int = 0, **status: Any) -> Object:
    return {
        "metadata": {
            "name": f"demo-{component}",
            "uid": "w",
            "generation": 2,
            "labels": labels(component),
        },
        "spec": {"replicas": 1},
        "status": {
            "observedGeneration": 2,
            "replicas": 1,
            "updatedReplicas": 1,
            "readyReplicas": ready,
            "availableReplicas": ready,
            **status,
        },
    }


def pod(component: str, *, spec: dict[str, Any] | None = None, **status: Any) -> Object:
    return {
        "metadata": {"name": f"demo-{component}-0", "labels": labels(component)},
        "spec": spec or {"containers": [{"name": component, "image": IMAGE}]},
        "status": {"phase": "Pending", **status},
    }


def container(name: str = "app", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": IMAGE, "ready": False, "restartCount": 0, **fields}


def unschedulable(message: str) -> dict[str, Any]:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
    }
    return {"conditions": [condition]}


def judge(component: str, kind: Kind, *others: tuple[Kind, Object], **status: Any) -> Component:
    """The component as reported, with these pods and claims around its workload."""
    key = Key(kind, "team", f"demo-{component}")
    live = workload(kind, component, **status)
    observed = {key: live}
    observed |= {Key(k, "team", o["metadata"]["name"]): o for k, o in others}
    (found,) = components({key: live}, observed)
    return found


def test_ready_when_all_is_rolled_out_and_available() -> None:
    found = judge("app", DEPLOYMENT, ready=1)
    assert (found.ready, found.reason, found.replicas, found.ready_replicas) == (
        True,
        "Ready",
        1,
        1,
    )


@pytest.mark.parametrize(
    "status",
    [
        {"observedGeneration": 1},
        {"updatedReplicas": 0},
        {"replicas": 2},
        {"availableReplicas": 0},
        {"readyReplicas": 0},
    ],
)
def test_not_ready_before_the_newest_template_runs_everywhere(status: dict[str, Any]) -> None:
    assert not judge("app", DEPLOYMENT, ready=1, **status).ready


def test_an_image_that_cannot_be_pulled_is_named_with_the_error() -> None:
    message = f'Back-off pulling image "{IMAGE}": ErrImagePull: ghcr.io: no such host'
    state = {"waiting": {"reason": "ImagePullBackOff", "message": message}}
    found = judge("app", DEPLOYMENT, (POD, pod("app", containerStatuses=[container(state=state)])))
    assert (found.reason, found.severity) == ("ImagePullError", Severity.TROUBLE)
    assert IMAGE in found.message
    assert "no such host" in found.message


def test_a_missing_gpu_is_named_with_the_two_ways_out() -> None:
    spec = {
        "containers": [
            {"name": "ollama", "resources": {"limits": {"nvidia.com/gpu": "1"}}},
        ]
    }
    said = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu. preemption: 0/1 nodes fit."
    found = judge("ollama", STATEFUL_SET, (POD, pod("ollama", spec=spec, **unschedulable(said))))
    assert found.reason == "Unschedulable"
    assert "no node offers 1 nvidia.com/gpu" in found.message
    assert "device plugin" in found.message
    assert "spec.ollama.gpu.enabled" in found.message


def test_missing_memory_is_named_with_the_amount() -> None:
    spec = {"containers": [{"name": "p", "resources": {"requests": {"memory": "64Gi"}}}]}
    said = "0/3 nodes are available: 3 Insufficient memory."
    other = pod("metis-postgres", spec=spec, **unschedulable(said))
    found = judge("metis-postgres", STATEFUL_SET, (POD, other))
    assert "no node offers 64Gi memory" in found.message
    assert "spec.metisPostgres.resources.requests" in found.message


@pytest.mark.parametrize(
    ("said", "help_"),
    [
        ("0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}.", "tolerations"),
        (
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
            "nodeSel",
        ),
        ("0/2 nodes are available: 2 node(s) didn't have free ports.", "kubectl describe pod"),
    ],
)
def test_a_pod_that_fits_no_node(said: str, help_: str) -> None:
    found = judge("app", DEPLOYMENT, (POD, pod("app", **unschedulable(said))))
    assert found.severity is Severity.TROUBLE
    assert help_ in found.message
    assert said in found.message


def claim(**spec: Any) -> Object:
    return {
        "metadata": {"name": "models-demo-ollama-0", "labels": labels("ollama")},
        "spec": {"resources": {"requests": {"storage": "40Gi"}}, **spec},
        "status": {"phase": "Pending"},
    }


def test_a_pending_volume_names_its_class() -> None:
    said = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    waiting = pod("ollama", **unschedulable(said))
    found = judge("ollama", STATEFUL_SET, (POD, waiting), (PVC, claim(storageClassName="fast-ssd")))
    assert (found.reason, found.severity) == ("PendingVolume", Severity.TROUBLE)
    assert "models-demo-ollama-0 (40Gi) waits for storage class fast-ssd" in found.message
    assert "kubectl get storageclass fast-ssd" in found.message


def test_a_volume_without_any_class() -> None:
    found = judge("ollama", STATEFUL_SET, (PVC, claim()))
    assert (found.reason, found.severity) == ("PendingVolume", Severity.TROUBLE)
    assert "no default one" in found.message


def test_a_volume_that_waits_for_its_first_pod_is_no_trouble() -> None:
    found = judge("ollama", STATEFUL_SET, (PVC, claim(storageClassName="standard")))
    assert (found.reason, found.severity) == ("PendingVolume", Severity.WAITING)


CRASH = {
    "exitCode": 1,
    "reason": "Error",
    "message": "starting\nFATAL: the database metis does not exist\n\n",
}


def test_a_crash_loop_says_exit_code_and_last_line() -> None:
    status = container(
        state={"waiting": {"reason": "CrashLoopBackOff"}},
        lastState={"terminated": CRASH},
        restartCount=4,
    )
    found = judge("app", DEPLOYMENT, (POD, pod("app", phase="Running", containerStatuses=[status])))
    assert found.reason == "CrashLoop"
    assert "exit code 1 (4 restarts): FATAL: the database metis does not exist" in found.message
    assert "starting" not in found.message


def test_between_two_crashes_it_is_still_a_crash_loop() -> None:
    status = container(
        state={"running": {}}, lastState={"terminated": CRASH}, started=False, restartCount=4
    )
    found = judge("app", DEPLOYMENT, (POD, pod("app", phase="Running", containerStatuses=[status])))
    assert found.reason == "CrashLoop"


def test_out_of_memory_says_which_limit_to_raise() -> None:
    status = container(
        state={"waiting": {"reason": "CrashLoopBackOff"}},
        lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
        restartCount=2,
    )
    other = pod("mem0-postgres", phase="Running", containerStatuses=[status])
    found = judge("mem0-postgres", STATEFUL_SET, (POD, other))
    assert found.reason == "OutOfMemory"
    assert "raise spec.mem0Postgres.resources.limits.memory" in found.message


def test_a_failed_migration_is_an_init_failure_with_its_last_line() -> None:
    init = container(
        "prepare",
        state={"waiting": {"reason": "CrashLoopBackOff"}},
        lastState={"terminated": {**CRASH, "message": "migration 0003 failed: disk full"}},
    )
    found = judge("app", DEPLOYMENT, (POD, pod("app", initContainerStatuses=[init])))
    assert found.reason == "InitFailed"
    assert "container prepare" in found.message
    assert "migration 0003 failed: disk full" in found.message


def test_a_missing_key_of_a_secret_is_passed_on() -> None:
    message = "couldn't find key keys.json in Secret team/my-keys"
    state = {"waiting": {"reason": "CreateContainerConfigError", "message": message}}
    found = judge("app", DEPLOYMENT, (POD, pod("app", containerStatuses=[container(state=state)])))
    assert found.reason == "CreateContainerConfigError"
    assert message in found.message


def test_a_failing_readiness_probe_is_named() -> None:
    spec = {"containers": [{"name": "app", "readinessProbe": {"httpGet": {"path": "/api/ready"}}}]}
    status = container(state={"running": {}}, started=True)
    other = pod("app", spec=spec, phase="Running", containerStatuses=[status])
    found = judge("app", DEPLOYMENT, (POD, other))
    assert (found.reason, found.severity) == ("NotReady", Severity.WAITING)
    assert "GET /api/ready" in found.message


def test_an_evicted_pod() -> None:
    evicted = pod("app", phase="Failed", reason="Evicted", message="The node was low on memory.")
    found = judge("app", DEPLOYMENT, (POD, evicted))
    assert (found.reason, found.severity) == ("Evicted", Severity.TROUBLE)


def test_a_quota_that_lets_no_pod_be_made() -> None:
    condition = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": 'pods "x" is forbidden: exceeded quota: small, requested: pods=1',
    }
    found = judge("app", DEPLOYMENT, conditions=[condition])
    assert (found.reason, found.severity) == ("FailedCreate", Severity.TROUBLE)
    assert "exceeded quota" in found.message


def test_a_pod_on_its_way_out_says_nothing() -> None:
    old = pod("app", containerStatuses=[container(state={"waiting": {"reason": "ErrImagePull"}})])
    old["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert judge("app", DEPLOYMENT, (POD, old)).severity is Severity.WAITING


def test_an_init_container_names_the_component_it_waits_for() -> None:
    prepare = container("prepare", state={"running": {}})
    app, db = Key(DEPLOYMENT, "team", "demo-app"), Key(STATEFUL_SET, "team", "demo-metis-postgres")
    observed = {
        app: workload(DEPLOYMENT, "app"),
        db: workload(STATEFUL_SET, "metis-postgres"),
        Key(POD, "team", "p"): pod("app", initContainerStatuses=[prepare]),
    }
    first, second = components({app: observed[app], db: observed[db]}, observed)
    assert [first.name, second.name] == ["metis-postgres", "app"]
    assert second.reason == "WaitingForDependency"
    assert second.message.startswith("Waiting for metis-postgres.")
    observed[db] = workload(STATEFUL_SET, "metis-postgres", ready=1)
    _, second = components({app: observed[app], db: observed[db]}, observed)
    assert second.reason == "Initializing"


def test_a_secret_that_nobody_made() -> None:
    key = Key(DEPLOYMENT, "team", "demo-app")
    live = workload(DEPLOYMENT, "app")
    live["spec"]["template"] = {
        "spec": {"volumes": [{"name": "auth", "secret": {"secretName": "my-keys"}}]}
    }
    (found,) = components({key: live}, {key: live}, absent_secrets={"my-keys"})
    assert (found.reason, found.severity) == ("SecretMissing", Severity.TROUBLE)
    assert "my-keys" in found.message


@pytest.mark.parametrize(
    ("suspend", "left", "reason"),
    [(True, 1, "Suspending"), (True, 0, "Suspended"), (False, 0, "ScaledToZero")],
)
def test_scaled_to_zero(suspend: bool, left: int, reason: str) -> None:
    key = Key(DEPLOYMENT, "team", "demo-app")
    live = workload(DEPLOYMENT, "app", replicas=left)
    live["spec"]["replicas"] = 0
    (found,) = components({key: live}, {key: live}, suspend=suspend)
    assert (found.reason, found.ready) == (reason, False)


def test_what_is_not_there_yet() -> None:
    key = Key(DEPLOYMENT, "team", "demo-app")
    (found,) = components({key: workload(DEPLOYMENT, "app")}, {})
    assert (found.reason, found.severity) == ("Creating", Severity.WAITING)


def test_long_messages_lose_their_middle_only() -> None:
    short = shorten("a" * 500 + "\n" + "b" * 500, 101)
    assert len(short) <= 101
    assert short.startswith("aaa")
    assert short.endswith("bbb")
