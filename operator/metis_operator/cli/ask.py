"""``ask``: a question to a MetisRAG, its answer as it is generated, and the sources."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from ..core import names
from ..core.objects import Object, meta_of
from . import answers
from .command import Context
from .exits import CommandError, Exit
from .instances import pick

if TYPE_CHECKING:
    from .appreach import App

NAME = "ask"
SUMMARY = "ask a MetisRAG a question"
DESCRIPTION = (
    "Asks with the key in METIS_KEY, or else with the generated admin key, and shows the answer as "
    "it comes, then the documents that it cites. The way to the app is a port-forward that lives "
    "as long as the question."
)
EXAMPLES = (
    ('ask "How many days of leave do I have?"', "the only MetisRAG in the namespace"),
    ('ask -i demo -n second "What does it cost?"', "another one"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("question", nargs="*", help="the question (default: standard input)")
    parser.set_defaults(rest="question")
    parser.add_argument(
        "-i",
        "--instance",
        dest="name",
        metavar="NAME",
        help="MetisRAG to ask (default: the only one)",
    )
    parser.add_argument(
        "--conversation", metavar="ID", help="go on with a conversation; its id stands in -o json"
    )


async def run(context: Context) -> int:
    """Ask."""
    from .appreach import reach_app

    question = " ".join(context.arguments.question).strip() or _from_stdin()
    async with context.connect() as session:
        resource = await pick(session, context.arguments.name)
        _check(resource)
        async with reach_app(session, str(meta_of(resource)["name"])) as app:
            told = await _answer(context, app, question)
    if context.as_json:
        context.print_json(told)
    return Exit.OK


def _from_stdin() -> str:
    text = "" if sys.stdin.isatty() else sys.stdin.read().strip()
    if not text:
        raise CommandError("There is no question.", 'Write: ask "…"', Exit.USAGE)
    return text


def _check(resource: Object) -> None:
    """Refuse while the app cannot answer, with the reason that the status gives."""
    status, meta = resource.get("status") or {}, meta_of(resource)
    app = next((c for c in status.get("components") or () if c.get("name") == names.APP), None)
    if app is not None and int(app.get("readyReplicas") or 0) == 0:
        why = app.get("message") or app.get("reason") or "it does not say why"
        raise CommandError(
            f"The app of {meta['namespace']}/{meta['name']} is not ready: {why}",
            "See: status",
        )


async def _answer(context: Context, app: App, question: str) -> dict[str, Any]:
    """Stream the answer out, and give back all of it."""
    terminal, quiet = context.terminal, context.as_json
    flow = answers.Flow(terminal.width if terminal.interactive else sys.maxsize)
    told: dict[str, Any] = {"answer": "", "sources": []}
    async with app.ask(question, context.arguments.conversation) as events:
        async for name, data in events:
            if name == "sources":
                told |= data
                if (data.get("memory") or {}).get("status") == "degraded":
                    terminal.note("note: its memory is away, this answer does without")
            elif name == "token":
                told["answer"] += data["text"]
                if not quiet:
                    terminal.print(flow.add(data["text"]), end="")
            elif name == "error":
                raise CommandError(f"The answer failed: {data.get('message')}", "Ask again.")
            elif name == "done":
                told |= {k: v for k, v in data.items() if k != "answer"}
                told["finished"] = True
    if not quiet:
        terminal.print(flow.end())
    if not told.pop("finished", False):
        raise CommandError("The answer broke off.", "Ask again: the app may have been restarted.")
    if not quiet:
        _show_sources(context, told["sources"])
    return told


def _show_sources(context: Context, sources: list[dict[str, Any]]) -> None:
    terminal = context.terminal
    terminal.print()
    if not sources:
        terminal.print(terminal.style("No document was used.", "dim"))
    for line in answers.source_lines(sources):
        terminal.print(terminal.style(line, "dim"))
