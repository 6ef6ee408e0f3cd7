"""What counts as a call outside of a role."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rights import Right, granted, refused, used

CLUSTER_ROLE = {
    "kind": "ClusterRole",
    "metadata": {"name": "op"},
    "rules": [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "patch"]},
        {"apiGroups": ["x"], "resources": ["defs"], "resourceNames": ["ours"], "verbs": ["get"]},
    ],
}
ROLE = {
    "kind": "Role",
    "metadata": {"name": "op", "namespace": "home"},
    "rules": [{"apiGroups": ["c"], "resources": ["leases"], "verbs": ["get"]}],
}
DOCUMENTS = [CLUSTER_ROLE, ROLE, {"kind": "Service", "metadata": {"name": "op"}}]


def entry(
    verb: str, group: str, resource: str, decision: str = "forbid", code: int = 403, **ref: str
) -> dict[str, Any]:
    return {
        "verb": verb,
        "requestURI": f"/{resource}",
        "objectRef": {"apiGroup": group, "resource": resource, **ref},
        "annotations": {"authorization.k8s.io/decision": decision},
        "responseStatus": {"code": code},
    }


@pytest.mark.parametrize(
    "within",
    [
        entry("list", "", "pods"),
        entry("patch", "", "pods", namespace="any", name="one"),
        entry("get", "x", "defs", name="ours"),
        entry("get", "c", "leases", namespace="home", name="l"),
        entry("delete", "", "pods", "allow", 404),
    ],
)
def test_what_the_role_grants_was_refused_by_a_server_that_did_not_know_it_yet(
    within: dict[str, Any],
) -> None:
    assert refused([within], DOCUMENTS) == set()


@pytest.mark.parametrize(
    "outside",
    [
        entry("delete", "", "pods", namespace="any", name="one"),
        entry("patch", "", "pods", namespace="any", name="one", subresource="status"),
        entry("get", "x", "defs", name="theirs"),
        entry("get", "c", "leases", namespace="away", name="l"),
        entry("list", "c", "leases"),
        {**entry("get", "", ""), "objectRef": None, "requestURI": "/metrics"},
    ],
)
def test_what_the_role_does_not_grant(outside: dict[str, Any]) -> None:
    (said,) = refused([outside], DOCUMENTS)
    assert outside["verb"] in said


def test_what_was_used() -> None:
    entries = [
        entry("patch", "", "pods", "allow", 201),
        entry("get", "x", "defs", "allow", 404),
        entry("list", "", "pods"),
    ]
    rights = {Right("patch", "", "pods"), Right("create", "", "pods"), Right("get", "x", "defs")}
    assert used(entries) == rights
    assert {str(r) for r in granted(DOCUMENTS) - used(entries)} == {"list pods", "get leases.c"}
