"""``logs``: what all pods of a MetisRAG say, in one stream."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core import names
from ..core.manifests import component_of
from ..core.objects import POD, Key, meta_of
from ..errors import ClusterError
from .command import Context, add_parts
from .exits import CommandError, Exit
from .instances import pick_parts
from .terminal import printable

if TYPE_CHECKING:
    from .reach import Session

NAME = "logs"
SUMMARY = "show the logs of all pods of a MetisRAG in one stream"
DESCRIPTION = (
    "Shows the logs of all pods of a MetisRAG, or of some components, in the order in which they "
    "were written; each line begins with its pod. Pods that come later join in with --follow."
)
EXAMPLES = (
    ("logs demo", "the last lines of everything"),
    ("logs demo app mem0 -f --since 10m", "two components, from ten minutes ago on, as they come"),
    ("logs app --previous", "what the app said before it last ended"),
)
_TAIL = 20
_LOOK_AGAIN = 2.0
_COLOURS = ("36", "35", "34", "32", "33")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def duration(text: str) -> int:
    """Seconds of a duration such as ``90s``, ``10m`` or ``1h30m``.

    Raises:
        argparse.ArgumentTypeError: it is no duration.
    """
    parts = re.findall(r"(\d+)([smhd])", text)
    if not parts or "".join(f"{n}{u}" for n, u in parts) != text:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: write 90s, 10m or 1h30m")
    return max(1, sum(int(n) * _UNITS[u] for n, u in parts))


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_parts(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on as lines come")
    parser.add_argument(
        "--since", type=duration, metavar="DURATION", help="only what is younger: 90s, 10m, 1h30m"
    )
    parser.add_argument(
        "--tail",
        type=int,
        metavar="LINES",
        help=f"last lines of each container; -1 for all (default: {_TAIL}, or all with --since)",
    )
    parser.add_argument(
        "-p", "--previous", action="store_true", help="of the containers that ran before"
    )
    parser.add_argument("--timestamps", action="store_true", help="with the time of each line")


@dataclass(frozen=True)
class Source:
    """A container whose log is read."""

    pod: str
    container: str
    label: str


@dataclass(frozen=True)
class Line:
    """One line of a log."""

    time: str
    source: Source
    text: str


def sources(pods: Iterable[Mapping[str, Any]], instance: str, *, previous: bool) -> list[Source]:
    """The containers that have something to say, by pod.

    Init containers count while they run or when they failed: what they did well is of no
    interest any more.
    """
    found = []
    for pod in sorted(pods, key=lambda p: str(meta_of(p).get("name"))):
        name = str(meta_of(pod).get("name"))
        short = name.removeprefix(f"{instance}-")
        status = pod.get("status") or {}
        speaking = [
            (str(entry.get("name")), bool(init))
            for init, key in ((True, "initContainerStatuses"), (False, "containerStatuses"))
            for entry in status.get(key) or ()
            if _speaks(entry, init=init, previous=previous)
        ]
        several = len([s for s in speaking if not s[1]]) > 1
        for container, init in speaking:
            label = f"{short}/{container}" if init or several else short
            found.append(Source(name, container, label))
    return found


def _speaks(entry: Mapping[str, Any], *, init: bool, previous: bool) -> bool:
    state = entry.get("state") or {}
    if previous:
        return bool((entry.get("lastState") or {}).get("terminated"))
    ended = state.get("terminated") or (entry.get("lastState") or {}).get("terminated")
    if init and ended and ended.get("exitCode") == 0:
        return False
    return bool("running" in state or ended)


def split(raw: str, source: Source) -> Line:
    """A line as the API server sends it: its time, a space, its text."""
    time, _, text = raw.partition(" ")
    return Line(time, source, text)


async def run(context: Context) -> int:
    """Show them."""
    arguments = context.arguments
    async with context.connect() as session:
        resource, parts = await pick_parts(session, arguments.name, arguments.components)
        reader = _Reader(context, session, str(meta_of(resource)["name"]), frozenset(parts))
        found = await reader.look()
        if not found and not arguments.follow:
            what = "containers that ran before" if arguments.previous else "running containers"
            where = " ".join((f"{session.namespace}/{reader.instance}", *parts))
            raise CommandError(f"{where} has no {what}.", "See: status", Exit.FAILED)
        await (reader.follow(found) if arguments.follow else reader.all_at_once(found))
    return Exit.OK


class _Reader:
    def __init__(
        self, context: Context, session: Session, instance: str, parts: frozenset[str]
    ) -> None:
        self._context = context
        self._session = session
        self._parts = parts
        self._width = 0
        self._last: dict[Source, str] = {}
        self.instance = instance

    async def look(self) -> list[Source]:
        """The containers there are now."""
        labels = {names.LABEL_NAME: names.PRODUCT, names.LABEL_INSTANCE: self.instance}
        pods, _ = await self._session.cluster.list(
            POD, namespace=self._session.namespace, selector=labels
        )
        chosen = [p for p in pods if not self._parts or component_of(p) in self._parts]
        found = sources(chosen, self.instance, previous=self._context.arguments.previous)
        self._width = max([self._width, *(len(s.label) for s in found)])
        return found

    async def all_at_once(self, found: Iterable[Source]) -> None:
        """All that is there, in the order of time."""
        lines = [line for source in found async for line in self._read(source)]
        for line in sorted(lines, key=lambda line: line.time):
            self._print(line)

    async def follow(self, found: Iterable[Source]) -> None:
        """Each line as it comes, also of what starts later or anew, until interrupted."""
        running: dict[Source, asyncio.Task[None]] = {}
        try:
            while True:
                for source in found:
                    if source not in running:
                        running[source] = asyncio.create_task(self._tell(source))
                await asyncio.sleep(_LOOK_AGAIN)
                for source, task in list(running.items()):
                    if task.done():
                        task.result()
                        del running[source]
                found = await self.look()
        finally:
            for task in running.values():
                task.cancel()
            await asyncio.gather(*running.values(), return_exceptions=True)

    async def _tell(self, source: Source) -> None:
        async for line in self._read(source):
            self._last[source] = line.time
            self._print(line)

    async def _read(self, source: Source) -> AsyncIterator[Line]:
        arguments = self._context.arguments
        tail = arguments.tail if arguments.tail is not None else -1 if arguments.since else _TAIL
        params = {"container": source.container, "timestamps": "true"}
        params |= {"tailLines": str(tail)} if tail >= 0 else {}
        params |= {"sinceSeconds": str(arguments.since)} if arguments.since else {}
        params |= {"follow": "true"} if arguments.follow else {}
        params |= {"previous": "true"} if arguments.previous else {}
        last = self._last.get(source, "")
        if last:  # read up to here before
            params = {k: v for k, v in params.items() if k not in ("tailLines", "sinceSeconds")}
            params["sinceTime"] = last
        key = Key(POD, self._session.namespace, source.pod)
        try:
            async with self._session.rest.log(key, params) as lines:
                async for raw in lines:
                    line = split(raw, source)
                    if line.time > last:
                        yield line
        except ClusterError as error:
            if error.code not in (400, 404):  # it went, or has not begun
                raise

    def _print(self, line: Line) -> None:
        terminal = self._context.terminal
        text = printable(line.text)
        if self._context.as_json:
            entry = {
                "time": line.time,
                "pod": line.source.pod,
                "container": line.source.container,
                "line": text,
            }
            terminal.print(json.dumps(entry, ensure_ascii=False))
            return
        label = line.source.label.ljust(self._width)
        colour = _COLOURS[zlib.crc32(line.source.label.encode()) % len(_COLOURS)]
        head = f"\x1b[{colour}m{label}\x1b[0m" if terminal.colour else label
        time = f"{terminal.style(line.time, 'dim')} " if self._context.arguments.timestamps else ""
        terminal.print(f"{head} {time}{text}")
