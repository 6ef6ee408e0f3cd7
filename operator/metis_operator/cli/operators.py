"""Which operator looks after a namespace. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..core.manifests import environment
from ..core.objects import Object


def watches(operator: Mapping[str, Any], namespace: str) -> bool:
    """Whether that Deployment of an operator looks after the namespace."""
    watched = environment(operator, "METIS_WATCH_NAMESPACE")
    return not watched or namespace in [n.strip() for n in watched.split(",")]


def operator_of(operators: Iterable[Object], namespace: str) -> Object | None:
    """The first of the operators that looks after the namespace, or None."""
    return next((o for o in operators if watches(o, namespace)), None)
