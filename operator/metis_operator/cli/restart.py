"""``restart``: new pods of a MetisRAG's components, a few at a time."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ..core import names
from ..core.manifests import component_of
from ..core.objects import WORKLOADS, Key, key_of, meta_of
from .command import Context, add_parts
from .exits import CommandError, Exit
from .instances import pick_parts

if TYPE_CHECKING:
    from .reach import Session

NAME = "restart"
SUMMARY = "restart components of a MetisRAG, a few pods at a time"
DESCRIPTION = (
    "Replaces the pods of the components, or of all, as an update would: a component of several "
    "pods goes on answering. A database is away for as long as its one pod starts."
)
EXAMPLES = (
    ("restart demo app", "the app of the MetisRAG demo"),
    ("restart mem0 ollama", "two components of the only MetisRAG in the namespace"),
)
_STAMP = "kubectl.kubernetes.io/restartedAt"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_parts(parser)


async def run(context: Context) -> int:
    """Stamp the pod templates."""
    async with context.connect() as session:
        arguments = context.arguments
        resource, parts = await pick_parts(session, arguments.name, arguments.components)
        name = meta_of(resource)["name"]
        chosen = await _workloads(session, name, parts)
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        template = {"metadata": {"annotations": {_STAMP: stamp}}}
        for key in chosen.values():
            await session.cluster.merge(key, {"spec": {"template": template}})
    restarted = list(chosen)
    if context.as_json:
        context.print_json({"namespace": session.namespace, "name": name, "restarted": restarted})
        return Exit.OK
    context.terminal.print(f"{session.namespace}/{name} restarts {', '.join(restarted)}")
    context.terminal.note(f"Follow it: {context.program} status {name} --watch")
    return Exit.OK


async def _workloads(session: Session, name: str, parts: Sequence[str]) -> dict[str, Key]:
    """What runs each component; without ``parts`` of all that have pods."""
    labels = {names.LABEL_NAME: names.PRODUCT, names.LABEL_INSTANCE: name}
    found: dict[str, Key] = {}
    asleep: list[str] = []
    for kind in WORKLOADS:
        workloads, _ = await session.cluster.list(
            kind, namespace=session.namespace, selector=labels
        )
        for workload in workloads:
            component = component_of(workload)
            if parts and component not in parts:
                continue
            if workload["spec"].get("replicas", 1) == 0:
                asleep.append(component)
            else:
                found[component] = key_of(workload, kind)
    missing = [p for p in parts if p not in found]
    if missing or not found:
        which = ", ".join(missing or asleep) or "anything"
        raise CommandError(
            f"{session.namespace}/{name} runs no pods of {which}.",
            "Is it suspended, or scaled to zero, or not made yet? See: status",
            Exit.FAILED,
        )
    return found
