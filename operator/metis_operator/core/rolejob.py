"""The Job that changes the login roles of a database.

It is made from the database's own StatefulSet: the same image, account and security, and the
scripts of the same ConfigMap. The passwords reach it as mounted files, the superuser's among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from . import names
from .credentials import METIS_DB
from .manifests import certificate_secret
from .objects import JOB, STATEFUL_SET, Object, Owner, annotations_of, meta_of, pod_spec_of, uid_of
from .rotation import Progress, Task

COMPONENT = "rotation"
_DEADLINE = 90
_KEEP = 3600
_POD_FIELDS = (
    "serviceAccountName",
    "securityContext",
    "imagePullSecrets",
    "nodeSelector",
    "tolerations",
)
_CONTAINER_FIELDS = ("image", "imagePullPolicy", "securityContext")
# The superuser's password goes to the one database only whose certificate says so.
_TLS_ENV = (
    {"name": "PGSSLMODE", "value": "verify-full"},
    {"name": "PGSSLROOTCERT", "value": "/run/tls/ca.crt"},
)
_TLS_MOUNT = {"name": "ca", "mountPath": "/run/tls", "readOnly": True}
# The key in the Secret, and the file that the script reads.
_FILES = {
    Task.PREPARE: {
        "superuser-password": "superuser-password",
        "next-username": "username",
        "next-password": "password",
    },
    Task.REVOKE: {
        "superuser-password": "superuser-password",
        "username": "username",
        "password": "password",
        "revoked-username": "revoked-username",
        "revoked-password": "revoked-password",
    },
}


def database_of(instance: str, purpose: str) -> str:
    """The name of the StatefulSet, the Service and the ConfigMap of the database."""
    component = names.METIS_POSTGRES if purpose == METIS_DB else names.MEM0_POSTGRES
    return f"{instance}-{component}"


def job_name(instance: str, purpose: str, task: Task, fingerprint: str) -> str:
    """The Job's name: one for each change, so that it is never done twice at once."""
    return f"{instance}-{purpose}-{task}-{fingerprint[:8]}"


def build(
    statefulset: Mapping[str, Any],
    instance: str,
    purpose: str,
    task: Task,
    fingerprint: str,
    owner: Owner | None,
) -> Object:
    """The Job. ``fingerprint`` is that of the login that works after it.

    It goes with its ``owner``, and where there is none with the database itself.
    """
    name = job_name(instance, purpose, task, fingerprint)
    template = pod_spec_of(statefulset)
    certificate = certificate_secret(statefulset)
    postgres: Mapping[str, Any] = next(iter(template.get("containers") or ()), {})
    labels = {
        **names.selector_labels(instance, COMPONENT),
        names.LABEL_PART_OF: names.PRODUCT,
    }
    container = {k: postgres[k] for k in _CONTAINER_FIELDS if k in postgres}
    container |= {
        "name": COMPONENT,
        "command": ["sh", "/etc/metis/rotate.sh", task.value],
        "env": [
            *(
                e
                for e in postgres.get("env") or ()
                if e["name"] in ("POSTGRES_USER", "POSTGRES_DB")
            ),
            {"name": "PGHOST", "value": database_of(instance, purpose)},
            {"name": "PGPORT", "value": str(_port_of(statefulset, postgres))},
            {"name": "PGCONNECT_TIMEOUT", "value": "5"},
            {"name": "EXPECTED", "value": fingerprint},
            *(_TLS_ENV if certificate else ()),
        ],
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"cpu": "500m", "memory": "128Mi"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "scripts", "mountPath": "/etc/metis", "readOnly": True},
            {"name": "db", "mountPath": "/run/secrets/db", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - a volume of the pod's own
            *([_TLS_MOUNT] if certificate else ()),
        ],
    }
    reference = owner.reference if owner is not None else _belongs_to(statefulset)
    meta: Object = {"name": name, "labels": labels, "ownerReferences": [reference]}
    if owner is not None:
        meta["namespace"] = owner.namespace
    return {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "metadata": meta,
        "spec": {
            "backoffLimit": 2,
            "activeDeadlineSeconds": _DEADLINE,
            "ttlSecondsAfterFinished": _KEEP,
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    **{k: template[k] for k in _POD_FIELDS if k in template},
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "restartPolicy": "Never",
                    "containers": [container],
                    "volumes": [
                        *_volumes(instance, purpose, task),
                        *([_authority(certificate)] if certificate else ()),
                    ],
                },
            },
        },
    }


def progress_of(job: Mapping[str, Any] | None) -> Progress:
    """How the Job is."""
    if job is None:
        return Progress.ABSENT
    conditions = (job.get("status") or {}).get("conditions") or ()
    states = {c.get("type") for c in conditions if c.get("status") == "True"}
    if "Complete" in states or "SuccessCriteriaMet" in states:
        return Progress.DONE
    return Progress.FAILED if states & {"Failed", "FailureTarget"} else Progress.RUNNING


def failed_at(job: Mapping[str, Any]) -> str | None:
    """When the Job failed (RFC 3339); None when it has not."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    times = [c.get("lastTransitionTime") for c in conditions if c.get("type") == "Failed"]
    return times[0] if times else None


def last_words(pods: Sequence[Mapping[str, Any]]) -> str:
    """What the Job's pods wrote last when they failed, or why they do not start."""
    said = ""
    for pod in pods:
        for container in (pod.get("status") or {}).get("containerStatuses") or ():
            state = container.get("state") or {}
            waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
            said = waiting.get("message") or said
            if ended.get("exitCode"):
                said = ended.get("message") or ended.get("reason") or said
    return " ".join(said.split())[-300:]


def _belongs_to(statefulset: Mapping[str, Any]) -> Object:
    """A reference that does not make the StatefulSet its controller."""
    return {
        "apiVersion": STATEFUL_SET.api_version,
        "kind": STATEFUL_SET.kind,
        "name": meta_of(statefulset)["name"],
        "uid": uid_of(statefulset),
    }


def _authority(certificate: str) -> Object:
    items = [{"key": "ca.crt", "path": "ca.crt"}]
    return {
        "name": "ca",
        "secret": {"secretName": certificate, "defaultMode": 0o440, "items": items},
    }


def _port_of(statefulset: Mapping[str, Any], postgres: Mapping[str, Any]) -> int:
    """The port of the Service, which need not be that of the container."""
    if told := annotations_of(statefulset).get(names.ANNOTATION_SERVICE_PORT):
        return int(told)
    return int(next((p["containerPort"] for p in postgres.get("ports") or ()), 5432))


def _volumes(instance: str, purpose: str, task: Task) -> list[Object]:
    return [
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {
            "name": "scripts",
            "configMap": {
                "name": database_of(instance, purpose),
                "items": [{"key": k, "path": k} for k in ("10-roles.sh", "rotate.sh")],
            },
        },
        {
            "name": "db",
            "secret": {
                "secretName": f"{instance}-{purpose}",
                "defaultMode": 0o440,
                "items": [{"key": k, "path": p} for k, p in _FILES[task].items()],
            },
        },
    ]
