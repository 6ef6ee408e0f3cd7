"""What the API server of the test cluster writes down: every request of a workload's account.

A test reads it at the end, and compares what the operator asked for with what its role grants.
"""

from __future__ import annotations

import json
from typing import Any

from hack.cache import CACHE

FILES = "/var/log/kubernetes/audit*.log"
"""Where it stands within the node, as a pattern of the shell."""

_SOURCE = CACHE.resolve() / "audit" / "policy.json"
"""The policy on this machine: its real path, as a node looks for it each time it starts."""
_POLICY = "/etc/kubernetes/audit/policy.json"
_LOG = "/var/log/kubernetes/audit.log"
_ACCOUNTS = "system:serviceaccounts"


def policy() -> dict[str, Any]:
    """What is written down: who asked for what, and the answer's code. No content."""
    own = [f"{_ACCOUNTS}:{namespace}" for namespace in ("kube-system", "local-path-storage")]
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "userGroups": own},
            {"level": "Metadata", "userGroups": [_ACCOUNTS]},
            {"level": "None"},
        ],
    }


def node_config() -> dict[str, Any]:
    """What kind's description of the node says for it: the policy's file, and the flags."""
    flags = {
        "audit-policy-file": _POLICY,
        "audit-log-path": _LOG,
        "audit-log-maxsize": "100",
        "audit-log-maxbackup": "2",
    }
    volumes: list[dict[str, Any]] = [
        {"name": "audit-policy", "path": _POLICY, "type": "File", "readOnly": True},
        {"name": "audit-log", "path": "/var/log/kubernetes", "type": "DirectoryOrCreate"},
    ]
    api_server = {
        "extraArgs": flags,
        "extraVolumes": [
            {
                "name": volume["name"],
                "hostPath": volume["path"],
                "mountPath": volume["path"],
                "pathType": volume["type"],
                "readOnly": volume.get("readOnly", False),
            }
            for volume in volumes
        ],
    }
    return {
        "extraMounts": [{"hostPath": str(_SOURCE), "containerPath": _POLICY, "readOnly": True}],
        "kubeadmConfigPatches": [
            json.dumps({"kind": "ClusterConfiguration", "apiServer": api_server})
        ],
    }


def write() -> None:
    """Have the policy's file where the node looks for it."""
    if _SOURCE.is_dir():  # which the engine makes in place of a file that it was to mount
        _SOURCE.rmdir()
    _SOURCE.parent.mkdir(parents=True, exist_ok=True)
    _SOURCE.write_text(json.dumps(policy(), indent=1))
