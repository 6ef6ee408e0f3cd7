"""The command line of the operator's image."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from . import logs
from .errors import MetisOperatorError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 failed, 2 called wrongly."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except MetisOperatorError as error:
        print(f"metis-operator: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def version() -> str:
    """The version of the installed package, or in the image that of the chart it carries."""
    try:
        return metadata.version("metis-rag")
    except metadata.PackageNotFoundError:
        chart = Path(os.environ.get("METIS_CHART_DIR", "/srv/charts/stack")) / "Chart.yaml"
        text = chart.read_text(encoding="utf-8") if chart.is_file() else ""
        found = re.search(r"(?m)^appVersion: *\"?([^\"\s]+)", text)
        return found[1] if found else "unknown"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m metis_operator", description="The controller of MetisRAG resources."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="watch MetisRAGs and keep them as their specs say",
        description="Watch MetisRAGs and keep them as their specs say. Configured by METIS_* "
        "environment variables; the cluster is that of the pod's service account, or KUBECONFIG's.",
    )
    run.set_defaults(command=_run)
    make = commands.add_parser(
        "credentials",
        help="generate the credentials that an instance lacks",
        description="Generate the credentials that an instance lacks. What is there is kept. "
        "Prints the names of the Secrets written, never a value.",
    )
    make.add_argument("--instance", required=True, help="name of the instance (the Helm release)")
    make.add_argument("--namespace", required=True, help="namespace of the instance")
    make.set_defaults(command=_credentials)
    show = commands.add_parser("version", help="print the version")
    show.set_defaults(command=_version)
    return parser


def _run(_: argparse.Namespace) -> int:
    from .main import run
    from .settings import Settings

    settings = Settings.from_env()
    logs.configure(settings.log_level)
    with contextlib.suppress(asyncio.CancelledError):  # a signal, before there was much to end
        asyncio.run(run(settings))
    return 0


def _credentials(arguments: argparse.Namespace) -> int:
    from .cluster import connect
    from .credentials import ensure_all

    async def make() -> list[str]:
        async with connect() as cluster:
            return await ensure_all(cluster, arguments.instance, arguments.namespace)

    logs.configure("WARNING")
    written = asyncio.run(make())
    print("\n".join(f"Secret/{name} written" for name in written) or "nothing was missing")
    return 0


def _version(_: argparse.Namespace) -> int:
    print(version())
    return 0


if __name__ == "__main__":
    sys.exit(main())
