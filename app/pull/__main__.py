"""``python -m app.pull MODEL``, or ``--prune``: what the chart's Jobs run."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from app.pull.progress import Progress, line_of
from app.pull.prune import Pruner
from app.pull.work import Everywhere, Wish, by_name

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15} | {
    f"{unit}i": 1024**power for power, unit in enumerate("KMGTP", 1)
}
_TERMINATED = 128 + signal.SIGTERM


def main(argv: list[str] | None = None) -> int:
    """0 when all servers have the model (or nothing but the wanted ones)."""
    arguments = _parser().parse_args(argv)
    host, _, port = arguments.servers.rpartition(":")
    resolve = by_name(host, int(port))
    if arguments.prune:
        replicas = 1 if arguments.shared else arguments.replicas
        pruner = Pruner(arguments.wanted, resolve, replicas, say, arguments.grace)
        return _run(pruner.run())
    (model,) = arguments.wanted
    wish = Wish(model, arguments.registry, arguments.insecure, arguments.volume)
    everywhere = Everywhere(wish, resolve, arguments.replicas, shared=arguments.shared)
    told = Telling(model, lambda: everywhere.progress)
    server = told.serve(arguments.port)
    try:
        return _run(_telling(everywhere, told))
    finally:
        server.shutdown()


class Telling:
    """Tells how far it is: as JSON to whoever asks, and in lines for the log."""

    def __init__(self, model: str, ask: Callable[[], Progress]) -> None:
        self._model = model
        self._ask = ask
        self._last: tuple[Any, ...] = ()
        self._said_at = float("-inf")

    def serve(self, port: int) -> ThreadingHTTPServer:
        """Answer any GET from now on, in a thread of its own."""
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps({"model": told._model, **told._ask().as_dict()}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        server = _Server(("", port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def log(self) -> None:
        """A line where there is news: another state or reason, or 5 % more, or 30 s later."""
        progress = self._ask()
        key = (progress.state, progress.message, progress.percent // 5)
        if key != self._last or time.monotonic() - self._said_at > 30:
            self._last, self._said_at = key, time.monotonic()
            say(f"pull: {self._model}: {line_of(progress)}")


class _Server(ThreadingHTTPServer):
    """On all addresses, of both families where the machine has both."""

    daemon_threads = True
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


async def _telling(everywhere: Everywhere, told: Telling) -> None:
    task = asyncio.create_task(everywhere.run())
    while not task.done():
        told.log()
        await asyncio.wait([task], timeout=0.25)  # A reason may hold for a second only.
    task.result()
    told.log()


def _run(work: Coroutine[Any, Any, None]) -> int:
    async def ended_by_signals() -> None:
        task = asyncio.ensure_future(work)
        for number in (signal.SIGTERM, signal.SIGINT):
            # As process 1 of a container it would get no signal that it does not ask for.
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await task

    try:
        asyncio.run(ended_by_signals())
    except asyncio.CancelledError:
        say("pull: ended by a signal; what is there stays, and the next one goes on from it")
        return _TERMINATED
    return 0


def say(line: str) -> None:
    """Tell whoever reads the log."""
    print(line, flush=True)


def _bytes(text: str) -> int:
    found = re.fullmatch(r"([0-9.]+)(|[kMGTP]|[KMGTP]i)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write it as 40Gi")
    return int(float(found[1]) * _UNITS[found[2]])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m app.pull", description=__doc__)
    parser.add_argument("wanted", nargs="+", metavar="MODEL", help="the model; all with --prune")
    parser.add_argument("--servers", required=True, metavar="HOST:PORT", help="name of all of them")
    parser.add_argument("--replicas", type=int, default=1, help="how many servers there should be")
    parser.add_argument("--shared", action="store_true", help="they have one volume together")
    parser.add_argument("--registry", default="", metavar="HOST", help="instead of Ollama's own")
    parser.add_argument("--insecure", action="store_true", help="the registry has no known TLS")
    parser.add_argument("--volume", type=_bytes, default=0, help="size of the volume, as 40Gi")
    parser.add_argument("--port", type=int, default=8080, help="where progress is told")
    parser.add_argument("--prune", action="store_true", help="delete all other models instead")
    parser.add_argument("--grace", type=float, default=120.0, help="seconds before that")
    return parser


if __name__ == "__main__":
    sys.exit(main())
