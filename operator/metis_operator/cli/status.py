"""``status``: how MetisRAGs are, trouble first."""

from __future__ import annotations

import argparse

from .command import Context, add_instance
from .instances import every, pick

NAME = "status"
SUMMARY = "show how MetisRAGs are, trouble first"
DESCRIPTION = "Shows how a MetisRAG and each of its components is, and why. Without a name, all."
EXAMPLES = (
    ("status", "all MetisRAGs of the namespace"),
    ("status demo", "one of them"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_instance(parser)


async def run(context: Context) -> int:
    """Show it."""
    async with context.connect() as session:
        name = context.arguments.name
        found = [await pick(session, name)] if name else await every(session, session.namespace)
    for resource in found:
        status = resource.get("status") or {}
        context.terminal.print(f"{resource['metadata']['name']}: {status.get('phase', 'Pending')}")
    return 0
