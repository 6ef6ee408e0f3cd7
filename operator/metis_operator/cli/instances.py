"""Which MetisRAG a command is about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..core import names
from ..core.objects import METISRAG, Object
from ..errors import ClusterError
from .exits import CommandError, Exit

if TYPE_CHECKING:
    from .reach import Session

COMPONENTS = (names.APP, names.MEM0, names.OLLAMA, names.METIS_POSTGRES, names.MEM0_POSTGRES)


async def every(session: Session, namespace: str | None) -> list[Object]:
    """All MetisRAGs of the namespace, or (None) of the cluster, by namespace and name.

    Raises:
        CommandError: the cluster does not know MetisRAGs.
        ClusterError: it refuses to list them.
    """
    with _known(session):
        found, _ = await session.cluster.list(METISRAG, namespace=namespace)
    return sorted(found, key=lambda o: (o["metadata"]["namespace"], o["metadata"]["name"]))


async def find(session: Session, namespace: str, name: str) -> Object | None:
    """The MetisRAG of that name, or None. It takes the right to list alone, which others need too.

    Raises:
        CommandError: the cluster does not know MetisRAGs.
        ClusterError: it refuses to list them.
    """
    with _known(session):
        selector = {"fieldSelector": f"metadata.name={name}"}
        found = await session.rest.items(METISRAG, namespace, selector)
    return found[0] if found else None


async def pick(session: Session, name: str | None) -> Object:
    """The MetisRAG of that name, or the only one of the namespace.

    Raises:
        CommandError: there is none, or no name and several.
        ClusterError: the cluster refuses to show it.
    """
    if name:
        found = await find(session, session.namespace, name)
        if found is not None:
            return found
    there = await every(session, session.namespace)
    if not name and len(there) == 1:
        return there[0]
    known = ", ".join(o["metadata"]["name"] for o in there)
    if not name and there:
        raise CommandError(
            f"Namespace {session.namespace} has {len(there)} MetisRAGs.",
            f"Name one of: {known}.",
            Exit.USAGE,
        )
    what = f"There is no MetisRAG{f' {name}' if name else ''} in namespace {session.namespace}."
    cure = f"There are: {known}." if known else "Look in another with -n, or in all: status -A"
    raise CommandError(what, cure, Exit.ABSENT)


async def pick_parts(
    session: Session, name: str | None, parts: Sequence[str]
) -> tuple[Object, tuple[str, ...]]:
    """The MetisRAG and the components that ``[NAME] [COMPONENT ...]`` names.

    A name that no MetisRAG has but a component means the only MetisRAG of the namespace.

    Raises:
        CommandError: there is no such MetisRAG, or no such component.
        ClusterError: the cluster refuses to show it.
    """
    if name and name in COMPONENTS and not await find(session, session.namespace, name):
        parts, name = (name, *parts), None
    for part in parts:
        if part not in COMPONENTS:
            cure = f"The components are: {', '.join(COMPONENTS)}."
            raise CommandError(f"There is no component {part}.", cure, Exit.USAGE)
    return await pick(session, name), tuple(parts)


@contextmanager
def _known(session: Session) -> Iterator[None]:
    """Say it clearly when the cluster has no CRD: then a 404 is about the kind."""
    try:
        yield
    except ClusterError as error:
        if error.code != 404:
            raise
        raise CommandError(
            f"The cluster at {session.place} does not know {names.KIND}s: the operator is not "
            "installed.",
            "Install it: helm install metis . -n metis --create-namespace",
            Exit.ABSENT,
        ) from error
