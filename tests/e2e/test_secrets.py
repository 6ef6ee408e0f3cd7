"""After everything else: no secret value of the whole run stands anywhere but in its Secret."""

from __future__ import annotations

import secrets
from collections import Counter
from typing import Any

import pytest

from tests.e2e.told.search import find

NAMESPACE = "planted"
PLACES = ("logs", "objects", "words")


def plant(cluster: Any) -> None:
    """A pod that tells its secret wherever one can: on its command line, in its log and so on."""
    value = f"planted_{secrets.token_urlsafe(32)}"
    cluster.namespace(NAMESPACE)
    security = {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsUser": 10001,
        "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    container = {
        "name": "leaky", "securityContext": security, "imagePullPolicy": "IfNotPresent",
        "image": f"ghcr.io/metis-rag/operator:{cluster.operator_image['tag']}",
        "command": ["sh", "-c", 'echo "my key is $0"; sleep 6', value],
    }  # fmt: skip
    cluster.apply(
        {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": NAMESPACE},
            "stringData": {"value": value},
        },
        {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": NAMESPACE},
            "spec": {"containers": [container], "restartPolicy": "Never"},
        },
    )  # fmt: skip
    cluster.kubectl(
        "wait", "pod/p", "-n", NAMESPACE, "--for=jsonpath={.status.phase}=Succeeded",
        "--timeout=60s",
    )  # fmt: skip
    cluster.drop_namespace(NAMESPACE)


@pytest.mark.full
@pytest.mark.told
@pytest.mark.last(1)
def test_no_secret_value_is_told_anywhere(cluster: Any) -> None:
    """Logs, objects, events, metrics, command lines and environments of the whole run."""
    plant(cluster)
    told = cluster.told
    told.stop()
    found = find(told.folder, told.secrets)
    planted = [f for f in found if f.endswith(f": {NAMESPACE}/s value")]
    places = {f.partition("/")[0].partition(":")[0] for f in planted}
    assert places == set(PLACES), "the search does not see all that it should"
    # What it read, so that a report shows that it read something.
    files = [f for f in told.folder.rglob("*") if f.is_file() and not f.is_symlink()]
    kinds = Counter(f.relative_to(told.folder).parts[0] for f in files)
    size = sum(f.stat().st_size for f in files)
    print(f"{len(told.secrets)} values looked for in {size / 1e6:.0f} MB: {dict(kinds)}")
    rest = [f for f in found if f not in planted]
    assert rest == [], "\n".join(rest)
