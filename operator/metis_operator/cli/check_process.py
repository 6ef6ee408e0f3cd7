"""``check``: what the chart's `helm test` calls."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from .exits import CommandError


def check(arguments: argparse.Namespace) -> int:
    """Use an instance as a user does, and take away what that made; say each step."""
    from ..check import run

    # What ends the pod early must not keep the check from cleaning up.
    signal.signal(signal.SIGTERM, _end)
    key = _key(arguments.key_file, arguments.secret) if arguments.key_file else None
    run(
        arguments.url,
        key,
        os.urandom(4).hex(),
        limit=arguments.limit,
        say=lambda line: print(line, flush=True),
    )
    return 0


def _end(number: int, _: FrameType | None) -> None:
    sys.exit(128 + number)


def _key(path: Path, secret: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise CommandError(
            f"Secret {secret} has no entry test-key, so there is no key to check with.",
            "Add a user helm-test to its keys.json, and put that user's key there as test-key.",
        ) from error


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        help="use an instance as a user does: ingest, retrieve, cite, remember, recall (helm test)",
        description="Use an instance as a user does: upload a document, ask about it, see that it "
        "is found and cited, tell something and see that it is remembered; then take all of that "
        "away again. Ends with 1 and the first thing that does not work.",
    )
    parser.add_argument("--url", required=True, help="where the app answers")
    parser.add_argument(
        "--key-file", type=Path, metavar="FILE", help="file with the bearer key; none: send no key"
    )
    parser.add_argument(
        "--secret", default="", metavar="NAME", help="Secret that the file is from, for messages"
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="how long to wait for the app, and for the memory server",
    )
    parser.set_defaults(process=check)
