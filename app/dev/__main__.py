"""``python -m app.dev``: the whole system on this machine, until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from app.core import config
from app.dev import models
from app.dev.children import end_with_parent, remove
from app.dev.models import Models
from app.dev.servers import Server, free_port
from app.dev.system import Folder, System
from app.errors import AppError, LocalRunError

APP_PORT = 8000
MEM0_PORT = 8050
OLLAMA_PORT = 11434
DATA = Path("data/dev")


class Interrupted(BaseException):
    """Ctrl-C, SIGTERM, a closed terminal, or the death of whoever started us."""


def parser() -> argparse.ArgumentParser:
    """The options."""
    settings = config.SETTINGS
    made = argparse.ArgumentParser(
        prog="python -m app.dev",
        description="Run the app, the Mem0 server and PostgreSQL on this machine, with an Ollama "
        "that runs already, that you name, or that is made here with two small models. Ctrl-C "
        "ends all of it.",
        epilog="Other settings come from the environment and .env, as always (.env.example).",
    )
    made.add_argument(
        "--data", type=Path, metavar="DIR", help=f"keeps documents, chats, keys (default {DATA})"
    )
    made.add_argument(
        "--throw-away", action="store_true", help="begin empty, and leave nothing at the end"
    )
    made.add_argument("--ollama-url", metavar="URL", help="use this Ollama")
    made.add_argument(
        "--small-models",
        action="store_true",
        help=f"start an Ollama with {' and '.join(models.SMALL_MODELS)}, even if another one runs",
    )
    made.add_argument(
        "--chat-model",
        default=settings.default_model,
        metavar="NAME",
        help=f"(default DEFAULT_MODEL, here {settings.default_model})",
    )
    made.add_argument(
        "--embedding-model",
        default=settings.default_embedding_model,
        metavar="NAME",
        help=f"(default DEFAULT_EMBEDDING_MODEL, here {settings.default_embedding_model})",
    )
    made.add_argument(
        "--port",
        type=int,
        default=APP_PORT,
        help=f"of the page (default {APP_PORT}, or a free one)",
    )
    made.add_argument(
        "--mem0-port",
        type=int,
        default=MEM0_PORT,
        help=f"of the Mem0 server (default {MEM0_PORT}, or a free one)",
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """0 after Ctrl-C or SIGTERM, 1 when a part fails, 2 for wrong words or settings."""
    try:
        arguments = parser().parse_args(argv)
    except AppError as error:
        print(f"metis: {error.message}", file=sys.stderr)
        return 2
    _listen_to_signals()
    try:
        with _folder(arguments) as folder:
            return _run(arguments, folder)
    except LocalRunError as error:
        print(f"metis: {error.message}", file=sys.stderr)
        return 1
    except Interrupted:
        return 0


def _run(arguments: argparse.Namespace, folder: Folder) -> int:
    began = time.monotonic()
    system = System(folder, durable=not arguments.throw_away)
    try:
        chosen = _models(arguments, folder, system)
        ports = free_port(arguments.port), free_port(arguments.mem0_port)
        database, mem0, app = system.start(chosen, *ports, say=lambda what: _say(f"{what} …"))
        _say(f"ready after {time.monotonic() - began:.1f} s")
        print(_summary(arguments, folder, chosen, database.dsn("metis"), mem0, app), flush=True)
        while (child := system.ended()) is None:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # until a child ends, or a signal
        raise LocalRunError(f"{child.name} ended with status {child.status}{child.tail()}")
    finally:
        _stop(system)


def _stop(system: System) -> None:
    """End the parts; Ctrl-C once more must not stop us from that."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    _say("stopping …")
    system.stop()


def _models(arguments: argparse.Namespace, folder: Folder, system: System) -> Models:
    """The Ollama to use; one that is started here ends with ``system``."""
    wanted = (arguments.chat_model, arguments.embedding_model)
    url = arguments.ollama_url or config.SETTINGS.ollama_base_url
    if not arguments.small_models:
        if found := models.there(url.rstrip("/"), *wanted):
            return found
        if url != models.DEFAULT_URL:
            raise LocalRunError(
                f"no Ollama answers at {url}; start it, name another with --ollama-url, or let "
                "--small-models start one of its own"
            )
    _say(f"Ollama with {' and '.join(models.SMALL_MODELS)} (the first time it is built) …")
    folder.logs.mkdir(parents=True, exist_ok=True)
    started = models.small(free_port(OLLAMA_PORT), folder.logs / "ollama.log")
    if started.child is not None:
        system.own(started.child.stop)
    return started


def _summary(
    arguments: argparse.Namespace,
    folder: Folder,
    chosen: Models,
    dsn: str,
    mem0: Server,
    app: Server,
) -> str:
    """Where everything is, and how to log in."""
    moved = [
        f"  (port {wanted} is taken, so {server.module} has {server.port})\n"
        for wanted, server in ((arguments.port, app), (arguments.mem0_port, mem0))
        if wanted != server.port
    ]
    end = "nothing stays" if arguments.throw_away else f"the data stays in {folder.root}"
    return f"""
{"".join(moved)}\
  page      {app.url}
            it asks for a key, once: cat {folder.admin_key}
  API       {app.url}/api/openapi.json
  Mem0      {mem0.url}, X-API-Key: cat {folder.mem0_keys / "current"}
  Ollama    {chosen.url} with {chosen.chat} and {chosen.embedding}
  database  {dsn}
  logs      {folder.logs}

Ctrl-C ends it; {end}."""


@contextlib.contextmanager
def _folder(arguments: argparse.Namespace) -> Iterator[Folder]:
    """The folder of this run, held against a second run; removed afterwards when thrown away."""
    if arguments.throw_away:
        root = Path(tempfile.mkdtemp(prefix="metis-dev-"))
        try:
            yield Folder(root)
        finally:
            remove(root)
        return
    root = arguments.data or DATA
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / "lock").open("w")
    except OSError as error:
        raise LocalRunError(
            f"the folder {root} cannot be used: {error.strerror}; name another with --data"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise LocalRunError(
                f"another run uses {root}; end that one, or name another folder with --data"
            ) from error
        yield Folder(root)


def _listen_to_signals() -> None:
    """Take every way of being told to end; under nohup, go on when the starter is gone."""

    def interrupted(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    outlives = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, interrupted)
    if not outlives:
        signal.signal(signal.SIGHUP, interrupted)
        end_with_parent(signal.SIGTERM, os.getppid())


def _say(line: str) -> None:
    print(f"metis: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
