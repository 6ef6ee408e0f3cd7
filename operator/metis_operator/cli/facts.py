"""What ``doctor`` knows of a cluster; ``looking.py`` fills it in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ..core.objects import Object, meta_of


@dataclass
class Facts:
    """What was seen; None is what the user may not see."""

    place: str
    namespace: str | None
    """The namespace looked at; None is all of them."""
    now: datetime
    server_now: datetime | None = None
    version: str = ""
    crd: Object | None = None
    nodes: list[Object] | None = None
    node_leases: list[Object] | None = None
    storage_classes: list[Object] | None = None
    daemon_sets: list[Object] | None = None
    dns: list[Object] | None = None
    operators: list[Object] | None = None
    operator_pods: list[Object] | None = None
    leases: Mapping[str, Object | None] = field(default_factory=dict)
    """The Lease of each operator, by the operator's ``namespace/name``."""
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The defaults of each operator, by its ``namespace/name``."""
    resources: list[Object] | None = None
    pods: list[Object] | None = None
    claims: list[Object] | None = None
    quotas: list[Object] | None = None
    events: list[Object] | None = None
    rights: Mapping[str, bool] = field(default_factory=dict)
    """Whether the user may do what a command needs, by ``verb resource: commands``."""
    unseen: list[str] = field(default_factory=list)


def names_of(objects: Iterable[Object]) -> str:
    """The names of objects, for a sentence."""
    return ", ".join(str(meta_of(o).get("name")) for o in objects)
