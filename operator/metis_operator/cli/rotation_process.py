"""``rotation``: what the chart's CronJob calls where there is no operator."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence

# The components whose credentials rotate; core.slots says how.
COMPONENTS = ("mem0-key", "mem0-db", "metis-db")


def rotate(arguments: argparse.Namespace) -> int:
    """Rotate what is asked for or due; print what was rotated, never a value."""
    from .. import logs
    from ..cluster import connect
    from ..core.rotation import Request
    from ..core.schedule import Rules
    from ..standalone import rotate as carry_out

    def rules_of(purpose: str, text: str) -> Rules:
        interval, _, window = text.partition("@")
        seed = f"{arguments.namespace}/{arguments.instance}/{purpose}"
        return Rules.of({"interval": interval, "window": window}, seed)

    token = str(int(time.time()))
    hurry = bool(arguments.revoke_now)

    async def work() -> list[str]:
        async with connect() as cluster:
            return await carry_out(
                cluster,
                arguments.instance,
                arguments.namespace,
                rules={p: rules_of(p, text) for p, text in arguments.rule},
                follows=dict(arguments.brought),
                requests={p: Request(token, revoke_now=hurry) for p in arguments.component},
                limit=arguments.limit,
                only=arguments.only or COMPONENTS,
            )

    logs.configure("INFO")
    rotated = asyncio.run(work())
    print("\n".join(f"{purpose} rotated" for purpose in rotated) or "nothing was due")
    return 0


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    turn = commands.add_parser(
        "rotation",
        help="rotate what is due, without an operator (the chart's CronJob)",
        description="Rotate the credentials that are due or named, and end rotations that were "
        "interrupted. For a stack that Helm installed without an operator; the operator does this "
        "by itself. Prints what was rotated, never a value.",
    )
    turn.add_argument("--instance", required=True, help="name of the instance (the Helm release)")
    turn.add_argument("--namespace", required=True, help="namespace of the instance")
    turn.add_argument(
        "--rule",
        action="append",
        default=[],
        type=pair,
        metavar="COMPONENT=INTERVAL@WINDOW",
        help="how often a component is rotated, and in which hours (UTC)",
    )
    add_brought(turn)
    add_only(turn, COMPONENTS)
    turn.add_argument(
        "--component",
        action="append",
        default=[],
        choices=COMPONENTS,
        help="rotate this one now, due or not; may be given several times",
    )
    turn.add_argument(
        "--revoke-now", action="store_true", help="close the former credential without waiting"
    )
    turn.add_argument(
        "--limit", type=float, default=1200.0, metavar="SECONDS", help="give up after so long"
    )
    turn.set_defaults(process=rotate)


def add_brought(parser: argparse.ArgumentParser) -> None:
    """The option that names Secrets of the user's."""
    parser.add_argument(
        "--from",
        dest="brought",
        action="append",
        default=[],
        type=pair,
        metavar="COMPONENT=SECRET",
        help="a Secret of the user's to follow, in place of generated values",
    )


def add_only(parser: argparse.ArgumentParser, purposes: Sequence[str]) -> None:
    """The option that leaves out what is brought from outside."""
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        choices=purposes,
        metavar="COMPONENT",
        help="one that the instance has of its own; may be given several times (default: all)",
    )


def pair(text: str) -> tuple[str, str]:
    """``COMPONENT=VALUE`` in two; argparse tells of anything else."""
    name, separator, value = text.partition("=")
    if not separator or name not in COMPONENTS or not value:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no COMPONENT=VALUE ({', '.join(COMPONENTS)})"
        )
    return name, value
