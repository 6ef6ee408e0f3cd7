"""``resume``: the operator takes a paused MetisRAG in hand again."""

from __future__ import annotations

import argparse

from .command import Context, add_instance
from .pause import hold

NAME = "resume"
SUMMARY = "let the operator look after a paused MetisRAG again"
DESCRIPTION = (
    "Ends `pause`: the operator brings the objects to what the spec says, and puts back what was "
    "changed by hand meanwhile. `plan NAME` shows beforehand what that will be."
)
EXAMPLES = (("resume demo", "when the work by hand is done"),)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_instance(parser)


async def run(context: Context) -> int:
    """Take the annotation away."""
    return await hold(context, paused=False)
