"""``python -m mem0_server`` serves; ``reindex`` and ``prepare`` are its other commands."""

from __future__ import annotations

import argparse
import sys

from mem0_server import prepare, reindex, serve


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m mem0_server", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("serve", help="serve (the default)")
    commands.add_parser("prepare", help="wait for the database and migrate it")
    again = commands.add_parser("reindex", help="embed all records anew, with progress")
    again.add_argument(
        "--drop",
        action="store_true",
        help="drop the index first; searches find only what is embedded again",
    )
    again.add_argument(
        "--no-wait",
        action="store_true",
        help="only queue the records; the servers embed them",
    )
    given = parser.parse_args(arguments)
    if given.command == "reindex":
        return reindex.main(drop=given.drop, wait=not given.no_wait)
    return prepare.main() if given.command == "prepare" else serve.serve()


if __name__ == "__main__":
    sys.exit(main())
