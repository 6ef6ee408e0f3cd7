"""What pods call: ``run``, ``credentials``, ``check``, ``version``. They read METIS_* variables."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import re
from importlib import metadata
from pathlib import Path

from . import check_process, rotation_process
from .exits import Exit

# So long, in seconds, an operator may take to end once it has begun to.
_END_WITHIN = 10.0
# New objects between two looks for cycles. Answers of the API server are trees of thousands, which
# go by themselves; at Python's 700 the looks take a fifth of all CPU.
_GARBAGE_AFTER = 20_000


def version() -> str:
    """The version of the installed package, or in the image that of the chart it carries."""
    try:
        return metadata.version("metis-rag")
    except metadata.PackageNotFoundError:
        chart = Path(os.environ.get("METIS_CHART_DIR", "/srv/charts/stack")) / "Chart.yaml"
        text = chart.read_text(encoding="utf-8") if chart.is_file() else ""
        found = re.search(r"(?m)^appVersion: *\"?([^\"\s]+)", text)
        return found[1] if found else "unknown"


def run_operator(_: argparse.Namespace) -> int:
    """Run the operator until it is told to stop."""
    from .. import logs
    from ..ending import LastResort
    from ..main import run
    from ..settings import Settings

    gc.set_threshold(_GARBAGE_AFTER)
    settings = Settings.from_env()
    logs.configure(settings.log_level)
    last_resort = LastResort(_END_WITHIN, Exit.FAILED)
    with contextlib.suppress(asyncio.CancelledError):  # a signal, before there was much to end
        asyncio.run(run(settings, last_resort))
    last_resort.cancel()
    return 0


def make_credentials(arguments: argparse.Namespace) -> int:
    """Generate what is missing; print names, never a value."""
    from .. import logs
    from ..cluster import connect
    from ..core.credentials import ALL
    from ..credentials import ensure_all

    async def make() -> list[str]:
        async with connect() as cluster:
            return await ensure_all(
                cluster,
                arguments.instance,
                arguments.namespace,
                dict(arguments.brought),
                arguments.only or ALL,
            )

    logs.configure("WARNING")
    written = asyncio.run(make())
    print("\n".join(f"Secret/{name} written" for name in written) or "nothing was missing")
    return 0


def show_version(_: argparse.Namespace) -> int:
    """Print the version."""
    print(version())
    return 0


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands."""
    run = commands.add_parser(
        "run",
        help="watch MetisRAGs and keep them as their specs say (the operator's pod)",
        description="Watch MetisRAGs and keep them as their specs say. Configured by METIS_* "
        "environment variables; the cluster is that of the pod's service account, or KUBECONFIG's.",
    )
    run.set_defaults(process=run_operator)
    make = commands.add_parser(
        "credentials",
        help="generate the credentials that an instance lacks (the chart's hook)",
        description="Generate the credentials that an instance lacks. What is there is kept. "
        "Prints the names of the Secrets written, never a value.",
    )
    make.add_argument("--instance", required=True, help="name of the instance (the Helm release)")
    make.add_argument("--namespace", required=True, help="namespace of the instance")
    rotation_process.add_brought(make)
    rotation_process.add_only(make, (*rotation_process.COMPONENTS, "auth"))
    make.set_defaults(process=make_credentials)
    rotation_process.add(commands)
    check_process.add(commands)
    show = commands.add_parser(
        "version", help="print the version", description="Print the version."
    )
    show.set_defaults(process=show_version)
