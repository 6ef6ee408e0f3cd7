"""``make ask Q="…"``: ask the running system, print its answer as it comes, then its sources.

Finds the instance and its admin key with kubectl, reaches the app through a port-forward that
lives as long as the question, and remembers nothing. May touch: the cluster of the default
kubeconfig (read only), the app's API, standard input and output.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO

import httpx

from hack.errors import HackError
from hack.reach import (
    AskError,
    Exit,
    Instance,
    Json,
    Kubectl,
    admin_key,
    find,
    forwarded,
    printable,
)

ROOT = Path(__file__).resolve().parent.parent
READ_LIMIT = 600.0  # a large model on a CPU may think for minutes before its first word


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a byte stream, split at newlines only (never at other Unicode separators)."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r").decode(errors="replace")


def events(stream: Iterable[str]) -> Iterator[tuple[str, Json]]:
    """The server-sent events in ``stream``: name and JSON data of each that is complete.

    :raises AskError: the data of an event is no JSON object.
    """
    name, data = "message", []
    for line in stream:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif not line:
            if data:
                yield name, _object("\n".join(data))
            name, data = "message", []


def _object(text: str) -> Json:
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise AskError(
            Exit.ANSWER,
            f"the app sent what is no event of its own: {printable(text[:80])}",
            "Is something else behind this Service? Versions of app and tools may differ, too.",
        )
    return parsed


def source_line(source: Json) -> str:
    """One source as it is listed: number, document, and page or section where known."""
    place = ""
    if source.get("page") is not None:
        place += f", page {source['page']}"
    if source.get("section"):
        place += f', section "{source["section"]}"'
    return printable(f"[{source['number']}] {source['document_name']}{place}").replace("\n", " ")


def source_list(sources: Sequence[Json]) -> str:
    """The sources as a block of lines, ordered by number."""
    if not sources:
        return "No document was used for this answer.\n"
    ordered = sorted(sources, key=lambda source: int(source["number"]))
    return "Sources:\n" + "".join(f"  {source_line(source)}\n" for source in ordered)


def refusal(response: httpx.Response) -> AskError:
    """The error that a response other than 2xx stands for; its body must have been read."""
    try:
        said = printable(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        said = "no reason given"
    if response.status_code in (401, 403):
        return AskError(
            Exit.KEY,
            f"the app refuses the key ({response.status_code}): {said}",
            "If the instance uses auth.existingSecret, put a key of yours into METIS_KEY; if the "
            "Secret <instance>-auth was changed by hand, restart the app.",
        )
    return AskError(
        Exit.ANSWER,
        f"the app answered {response.status_code}: {said}",
        "`curl <url>/api/health` tells which part is unwell; the app's log has the cause.",
    )


def answer(app: httpx.Client, question: str, out: TextIO, notes: TextIO) -> None:
    """Stream the answer to ``out``, then list its sources; raises :class:`AskError`."""
    sources: list[Json] = []
    finished = False
    with app.stream("POST", "/api/chat/stream", json={"message": question}) as response:
        if not response.is_success:
            response.read()
            raise refusal(response)
        for name, data in events(lines(response.iter_bytes())):
            if name == "sources":
                sources = data["sources"]
                if data.get("memory", {}).get("status") == "degraded":
                    print("note: memory is away; this is answered without it", file=notes)
            elif name == "token":
                out.write(printable(data["text"]))
                out.flush()
            elif name == "error":
                out.write("\n")
                raise AskError(
                    Exit.ANSWER,
                    f"the answer failed: {printable(data['message'])} ({data['code']})",
                    "Ask again; if it stays so, /api/health tells which part is unwell.",
                )
            elif name == "done":
                finished = True
    out.write("\n\n" if finished else "\n")
    if not finished:
        raise AskError(
            Exit.ANSWER, "the answer broke off", "Ask again; the app may have been restarted."
        )
    out.write(source_list(sources))


def own_documents() -> list[Path]:
    """The product's own documentation: README.md and what lies under docs/."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path for path in found if path.is_file() and path.stat().st_size]


def documents(app: httpx.Client) -> list[Json]:
    """The documents of the instance."""
    response = app.get("/api/documents")
    if not response.is_success:
        raise refusal(response)
    listed: list[Json] = response.json()["documents"]
    return listed


def processed(app: httpx.Client) -> list[Json]:
    """The documents, once none of them is being processed any more."""
    deadline = time.monotonic() + READ_LIMIT
    while True:
        listed = documents(app)
        if not any(document["status"] == "processing" for document in listed):
            return listed
        if time.monotonic() > deadline:
            raise AskError(
                Exit.ANSWER, "the documents are still being processed", "Ask again in a while."
            )
        time.sleep(0.5)


def offer_own_documents(app: httpx.Client, notes: TextIO, *, interactive: bool) -> None:
    """Upload the product's own documents where there are none yet; on a terminal, ask first."""
    paths = own_documents()
    if not paths or documents(app):
        return
    print(f"No documents yet: the product's own ({len(paths)}) can be asked about.", file=notes)
    if interactive:
        print("Upload them? [Y/n] ", end="", file=notes, flush=True)
        if sys.stdin.readline().strip().lower() not in ("", "y", "yes"):
            return
    else:
        print("Uploading them, as this is no terminal to ask on.", file=notes)
    for path in paths:
        name = path.relative_to(ROOT).as_posix()
        part = (name, path.read_bytes(), "text/markdown")
        response = app.post("/api/documents", files={"files": part})
        if not response.is_success:
            raise refusal(response)
        print(f"  {name}", file=notes, flush=True)
    listed = processed(app)
    for document in listed:
        if document["status"] == "failed":
            print(f"  {printable(document['name'])} failed: {document['error']}", file=notes)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    statuses = "; ".join(f"{status.value} {status.name.lower()}" for status in Exit)
    made = argparse.ArgumentParser(
        prog='make ask Q="…"',
        usage='make ask Q="your question" [INSTANCE=namespace/name]\n'
        "       python -m hack ask [--instance NAMESPACE/NAME] QUESTION",
        description="Ask a running Metis RAG. The answer streams to standard output, its sources "
        "follow; everything else goes to standard error. On first use, when the instance has no "
        "documents, the product's own are offered.",
        epilog=f"Environment: INSTANCE, KUBECONFIG, METIS_KEY (a key to use instead of the "
        f"generated one). Exit status: 0 answered; {statuses}.",
    )
    made.add_argument("question", nargs="*", help="what to ask, in any language the model knows")
    made.add_argument(
        "--instance",
        default=os.environ.get("INSTANCE") or "metis/metis",
        help="namespace/name of the MetisRAG or Helm release (default: INSTANCE, or metis/metis)",
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Ask; returns the exit status. ``argv`` is without the program's name."""
    command = parser()
    arguments = command.parse_args(argv)
    question = " ".join(arguments.question).strip()
    instance = Instance.parse(arguments.instance)
    if not question or instance is None:
        wrong = "there is no question"
        if question:
            wrong = f"{arguments.instance!r} is not of the form namespace/name, as in metis/metis"
        print(f"{command.format_usage()}ask: {wrong}", file=sys.stderr)
        return Exit.USAGE

    before = signal.signal(signal.SIGTERM, _leave)
    try:
        kubectl = Kubectl()
        find(kubectl, instance, sys.stderr)
        key = admin_key(kubectl, instance)
        with (
            forwarded(kubectl, instance) as url,
            httpx.Client(
                base_url=url,
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=httpx.Timeout(30.0, read=READ_LIMIT),
                trust_env=False,
            ) as app,
        ):
            terminal = sys.stdin.isatty() and sys.stderr.isatty()
            offer_own_documents(app, sys.stderr, interactive=terminal)
            answer(app, question, sys.stdout, sys.stderr)
    except HackError as error:
        print(f"ask: {error.what}\n     {error.todo}", file=sys.stderr)
        return error.status if isinstance(error, AskError) else Exit.CLUSTER
    except httpx.HTTPError as error:
        cause = str(error) or type(error).__name__
        print(f"ask: the connection to the app was lost: {cause}\n     Ask again.", file=sys.stderr)
        return Exit.ANSWER
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.ANSWER
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _leave(number: int, _: FrameType | None) -> NoReturn:
    """On SIGTERM leave by an exception, so that the port-forward is ended on the way out."""
    raise SystemExit(128 + number)
