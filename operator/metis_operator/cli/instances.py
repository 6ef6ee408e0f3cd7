"""Which MetisRAG a command is about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..core import names
from ..core.objects import METISRAG, Key, Object
from ..errors import ClusterError
from .exits import CommandError, Exit
from .reach import Session


async def every(session: Session, namespace: str | None) -> list[Object]:
    """All MetisRAGs of the namespace, or (None) of the cluster, by namespace and name.

    Raises:
        CommandError: the cluster does not know MetisRAGs.
        ClusterError: it refuses to list them.
    """
    with _known(session):
        found, _ = await session.cluster.list(METISRAG, namespace=namespace)
    return sorted(found, key=lambda o: (o["metadata"]["namespace"], o["metadata"]["name"]))


async def pick(session: Session, name: str | None) -> Object:
    """The MetisRAG of that name, or the only one of the namespace.

    Raises:
        CommandError: there is none, or no name and several.
        ClusterError: the cluster refuses to show it.
    """
    if name:
        with _known(session):
            found = await session.cluster.get(Key(METISRAG, session.namespace, name))
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
