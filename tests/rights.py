"""What a role grants, what an audit log shows as used, and what was refused. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Right(NamedTuple):
    """One thing that may be done; ``resource`` with its subresource."""

    verb: str
    group: str
    resource: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}" + (f".{self.group}" if self.group else "")


def granted(documents: Iterable[Mapping[str, Any]]) -> set[Right]:
    """All that the roles among the rendered ``documents`` grant."""
    return {
        Right(verb, group, resource)
        for document in documents
        if document["kind"] in ("Role", "ClusterRole")
        for rule in document["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def used(entries: Iterable[Mapping[str, Any]]) -> set[Right]:
    """All rights that requests in an audit log needed.

    An apply that makes something new needs the right to patch, and to create.
    """
    found: set[Right] = set()
    for entry in entries:
        right = _right(entry)
        if right is None or is_forbidden(entry):
            continue
        found.add(right)
        if right.verb == "patch" and entry.get("responseStatus", {}).get("code") == 201:
            found.add(right._replace(verb="create"))
    return found


def is_forbidden(entry: Mapping[str, Any]) -> bool:
    """Whether the API server refused the request for want of a right."""
    return bool(entry.get("annotations", {}).get("authorization.k8s.io/decision") == "forbid")


def refused(
    entries: Iterable[Mapping[str, Any]], documents: Iterable[Mapping[str, Any]]
) -> set[str]:
    """The requests outside of the roles among ``documents``, in words.

    An API server that has just started refuses everything until it has read its roles. So a
    request that was refused counts when the roles do not grant it, and not when they do.
    """
    roles = [d for d in documents if d["kind"] in ("Role", "ClusterRole")]
    return {
        f"{_right(e) or e['verb']}: {e['requestURI']}"
        for e in entries
        if is_forbidden(e) and not any(_allows(role, e) for role in roles)
    }


def _allows(role: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
    """Whether the role grants exactly this: the right, in this namespace, for this name."""
    right, reference = _right(entry), entry.get("objectRef") or {}
    if right is None:
        return False
    home = role["metadata"].get("namespace")
    if role["kind"] == "Role" and reference.get("namespace") != home:
        return False
    return any(
        right.verb in rule["verbs"]
        and right.group in rule["apiGroups"]
        and right.resource in rule["resources"]
        and reference.get("name", "") in (rule.get("resourceNames") or [reference.get("name", "")])
        for rule in role["rules"]
    )


def _right(entry: Mapping[str, Any]) -> Right | None:
    reference = entry.get("objectRef")
    if not reference or "resource" not in reference:
        return None
    resource = reference["resource"]
    if reference.get("subresource"):
        resource += f"/{reference['subresource']}"
    return Right(entry["verb"], reference.get("apiGroup", ""), resource)
