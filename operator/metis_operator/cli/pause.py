"""``pause``: the operator keeps its hands off a MetisRAG."""

from __future__ import annotations

import argparse

from ..core import names
from ..core.objects import METISRAG, annotations_of, key_of
from .command import Context, add_instance
from .instances import pick

NAME = "pause"
SUMMARY = "keep the operator's hands off a MetisRAG"
DESCRIPTION = (
    "From now on the operator changes nothing of the MetisRAG's objects, whatever its spec says "
    "and whatever becomes of them; its status is still told. What runs keeps running. To "
    "stop it as well, set spec.suspend."
)
EXAMPLES = (("pause demo", "before changing one of its objects by hand"),)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_instance(parser)


async def run(context: Context) -> int:
    """Set the annotation."""
    return await hold(context, paused=True)


async def hold(context: Context, *, paused: bool) -> int:
    """Set or take away the annotation that the operator heeds, and say which it was."""
    async with context.connect() as session:
        resource = await pick(session, context.arguments.name)
        key = key_of(resource, METISRAG)
        changed = (annotations_of(resource).get(names.ANNOTATION_PAUSED) == "true") is not paused
        if changed:
            value = "true" if paused else None
            patch = {"metadata": {"annotations": {names.ANNOTATION_PAUSED: value}}}
            await session.cluster.merge(key, patch)
    if context.as_json:
        context.print_json(
            {"namespace": key.namespace, "name": key.name, "paused": paused, "changed": changed}
        )
        return 0
    state = "paused" if paused else "resumed"
    again = "" if changed else " already"
    if not changed and not paused:
        context.terminal.print(f"{key.namespace}/{key.name} was not paused")
    else:
        context.terminal.print(f"{key.namespace}/{key.name} is{again} {state}")
    return 0
