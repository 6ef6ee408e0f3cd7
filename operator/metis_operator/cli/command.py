"""What a command is made of: arguments, a terminal, the cluster, and the options all share."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from .terminal import Terminal

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from .reach import Session


@dataclass(frozen=True)
class Context:
    """What ``run`` of a command is given."""

    arguments: argparse.Namespace
    terminal: Terminal
    program: str
    """How the command was called, to be named in advice: ``kubectl metis``."""

    def connect(self) -> AbstractAsyncContextManager[Session]:
        """The cluster that the options name, for as long as the context lasts.

        Raises:
            CommandError: there is none; and, inside of the context, whatever it refuses.
        """
        from .reach import connect  # what speaks to a cluster is loaded only for those who do

        return connect(self.arguments)

    @property
    def as_json(self) -> bool:
        """Whether the output is for a program."""
        return bool(self.arguments.output == "json")

    def print_json(self, value: Any) -> None:
        """Write ``value`` as the whole output."""
        self.terminal.print(json.dumps(value, indent=2, ensure_ascii=False))


class Command(Protocol):
    """A module of a command."""

    NAME: str
    SUMMARY: str
    DESCRIPTION: str
    EXAMPLES: tuple[tuple[str, str], ...]
    """Pairs of arguments (after the program's name) and what they do."""

    @staticmethod
    def configure(parser: argparse.ArgumentParser) -> None:
        """Add the command's own arguments."""

    @staticmethod
    async def run(context: Context) -> int:
        """Carry it out; the exit code."""


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """The options by which any command finds its cluster; as kubectl's own."""
    group = parser.add_argument_group("cluster")
    group.add_argument(
        "-n", "--namespace", metavar="NAMESPACE", help="namespace (default: that of the context)"
    )
    group.add_argument("--context", metavar="CONTEXT", help="context of the kubeconfig")
    group.add_argument(
        "--kubeconfig",
        metavar="FILE",
        help="kubeconfig file (default: $KUBECONFIG, then ~/.kube/config; in a pod, its own "
        "service account)",
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """How the output looks."""
    group = parser.add_argument_group("output")
    group.add_argument(
        "-o",
        "--output",
        choices=("text", "json"),
        default="text",
        help="text for people or json for programs (default: text)",
    )
    group.add_argument(
        "--no-color",
        action="store_true",
        help="no colour; there is none either where the output is no terminal or NO_COLOR is set",
    )


def add_instance(parser: argparse.ArgumentParser) -> None:
    """The argument that names a MetisRAG."""
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="name of the MetisRAG (default: the only one in the namespace)",
    )


def add_parts(parser: argparse.ArgumentParser) -> None:
    """The arguments that name a MetisRAG and components of it; see ``instances.pick_parts``."""
    add_instance(parser)
    parser.add_argument(
        "components",
        nargs="*",
        metavar="COMPONENT",
        help="app, mem0, ollama, metis-postgres, mem0-postgres (default: all)",
    )
    parser.set_defaults(rest="components")
