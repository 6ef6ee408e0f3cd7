"""``rotate``: new keys and database passwords, without a failed request."""

from __future__ import annotations

import argparse
import asyncio
import copy
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..core import names
from ..core.objects import CRON_JOB, JOB, METISRAG, Key, Object, key_of
from ..core.rolejob import progress_of
from ..core.rotation import Phase, Progress
from .command import Context, add_instance
from .exits import CommandError, Exit
from .instances import pick
from .rotation_process import COMPONENTS

if TYPE_CHECKING:
    from .reach import Session

NAME = "rotate"
SUMMARY = "exchange keys and database passwords for new ones"
DESCRIPTION = (
    "Asks for new credentials: the API key of the memory server and the passwords of both "
    "databases, or those named. The operator brings each into use everywhere before it closes the "
    "former one, so no request fails. A stack that Helm installed without an operator is named "
    "with --release: a Job in the cluster then does the same."
)
EXAMPLES = (
    ("rotate demo --wait", "all credentials of the MetisRAG demo, until that is done"),
    ("rotate demo --component mem0-key --revoke-now", "a key that leaked: requests may fail"),
    ("rotate --release solo -n solo", "of a stack that Helm installed without an operator"),
)
_LOOK = 1.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_instance(parser)
    parser.add_argument(
        "--release", metavar="NAME", help="a Helm release of the stack, without an operator"
    )
    parser.add_argument(
        "--component",
        action="append",
        default=[],
        choices=COMPONENTS,
        help="rotate this one; may be given several times (default: all)",
    )
    parser.add_argument(
        "--revoke-now",
        action="store_true",
        help="close the former credential at once, though some may still use it: when it leaked",
    )
    parser.add_argument("--wait", action="store_true", help="wait until it is done")
    parser.add_argument(
        "--timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="how long --wait waits (default: 300)",
    )


async def run(context: Context) -> int:
    """Ask for it; with ``--wait`` see it through."""
    arguments = context.arguments
    if arguments.release and arguments.name:
        raise CommandError(
            "Both a MetisRAG and a release are named.",
            "Give NAME for a MetisRAG, or --release for a stack without an operator.",
            Exit.USAGE,
        )
    async with context.connect() as session:
        ask = _by_job if arguments.release else _by_operator
        name, components, ended = await ask(session, arguments)
        if not arguments.wait:
            return _tell(context, session, name, components, "asked")
        await _wait(ended, arguments.timeout, f"{session.namespace}/{name}")
        return _tell(context, session, name, components, "done")


async def _by_operator(
    session: Session, arguments: argparse.Namespace
) -> tuple[str, list[str], Callable[[], Any]]:
    """Annotate the MetisRAG; its name, what rotates, and what tells whether that has ended."""
    resource = await pick(session, arguments.name)
    key = key_of(resource, METISRAG)
    components = chosen(arguments.component, _states(resource), f"MetisRAG {key.name}")
    token = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    value = f"{token} {names.REVOKE_NOW}" if arguments.revoke_now else token
    notes = {f"{names.ROTATE_PREFIX}/{c}": value for c in components}
    before = _states(resource)
    await session.cluster.merge(key, {"metadata": {"annotations": notes}})

    async def ended() -> str:
        """Empty once they have; what they wait for until then."""
        now = _states(await session.cluster.get(key) or {})
        return "; ".join(filter(None, (_left(c, before.get(c), now.get(c)) for c in components)))

    return key.name, components, ended


async def _by_job(
    session: Session, arguments: argparse.Namespace
) -> tuple[str, list[str], Callable[[], Any]]:
    """Start a Job from the release's CronJob; its name, what rotates, and whether it has ended."""
    release, namespace = arguments.release, session.namespace
    cron = await session.cluster.get(Key(CRON_JOB, namespace, f"{release}-rotator"))
    if cron is None:
        raise CommandError(
            f"Release {release} in namespace {namespace} has no CronJob {release}-rotator: it is "
            "no stack that Helm installed without an operator.",
            "For a MetisRAG, leave --release out; otherwise name the namespace with -n.",
            Exit.ABSENT,
        )
    components = chosen(arguments.component, _rotated_by(cron), f"release {release}")
    if (cron.get("spec") or {}).get("suspend") and set(components) != {"mem0-key"}:
        raise CommandError(
            f"Release {release} in namespace {namespace} is suspended: its databases cannot be "
            "changed.",
            "Set `suspend` to false first, or rotate the key alone: --component mem0-key.",
        )
    job = job_from(cron, components, hurry=arguments.revoke_now, suffix=secrets.token_hex(4))
    key = Key(JOB, namespace, job["metadata"]["name"])
    await session.cluster.create(key, job)

    async def ended() -> str:
        found = await session.cluster.get(key)
        progress = progress_of(found)
        if found is None:
            raise CommandError(
                f"{key} in namespace {namespace} is not there any more.",
                "Look at the Secrets' annotations rotation.metisrag.dev/*, or ask again: what it "
                "left half-done, the next one ends.",
            )
        if progress is Progress.FAILED:
            raise CommandError(
                f"{key} in namespace {namespace} failed.",
                f"See why: kubectl -n {namespace} logs job/{key.name}. What it left half-done, "
                "the next one ends.",
            )
        return "" if progress is Progress.DONE else f"{key} is at work"

    return release, components, ended


def chosen(wanted: Sequence[str], own: Collection[str], whose: str) -> list[str]:
    """What to rotate: the components that are ``wanted`` (all, when empty) of those there are.

    Raises:
        CommandError: one of them is brought from outside, so nobody here can exchange it.
    """
    if not own:  # Nothing has been told yet.
        return list(dict.fromkeys(wanted or COMPONENTS))
    for component in wanted:
        if component not in own:
            raise CommandError(
                f"{whose} has no {component} of its own: what it opens is brought from outside.",
                "Change the Secret that the values name for it; the pods go over to it.",
                Exit.USAGE,
            )
    return list(dict.fromkeys(wanted or [c for c in COMPONENTS if c in own]))


def _rotated_by(cron: Mapping[str, Any]) -> list[str]:
    """The components that the CronJob is told to rotate."""
    (container,) = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    arguments = container.get("args") or []
    return [after for name, after in pairwise(arguments) if name == "--only"]


def job_from(cron: Mapping[str, Any], components: list[str], *, hurry: bool, suffix: str) -> Object:
    """The Job that the CronJob would start, asked to rotate ``components`` now."""
    template = copy.deepcopy(cron["spec"]["jobTemplate"])
    meta = cron["metadata"]
    (container,) = template["spec"]["template"]["spec"]["containers"]
    for component in components:
        container["args"] += ["--component", component]
    if hurry:
        container["args"].append("--revoke-now")
    return {
        "apiVersion": JOB.api_version,
        "kind": JOB.kind,
        "metadata": {
            **template.get("metadata", {}),
            "name": f"{meta['name']}-{suffix}",
            "namespace": meta["namespace"],
            # It goes with the release, and the CronJob does not count it among its own.
            "ownerReferences": [
                {
                    "apiVersion": CRON_JOB.api_version,
                    "kind": CRON_JOB.kind,
                    "name": meta["name"],
                    "uid": meta["uid"],
                }
            ],
        },
        "spec": template["spec"],
    }


def _states(resource: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    found = (resource.get("status") or {}).get("rotation") or ()
    return {r["component"]: r for r in found}


def _left(component: str, before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> str:
    """What is left to be done of one rotation; empty when it has ended."""
    if now is None:
        return f"{component} is not told of yet"
    if now["phase"] != Phase.IDLE:
        return str(now.get("message") or f"{component} is {str(now['phase']).lower()}")
    if before is not None and now.get("current") == before.get("current"):
        return str(now.get("message") or f"{component} has not begun")
    return ""


async def _wait(ended: Callable[[], Any], limit: float, what: str) -> None:
    end = time.monotonic() + limit
    while left := await ended():
        if time.monotonic() > end:
            raise CommandError(
                f"Not finished within {limit:.0f} s: {left}.",
                f"It goes on by itself. See: status {what.rpartition('/')[2]}",
                Exit.ATTENTION,
            )
        await asyncio.sleep(_LOOK)


def _tell(context: Context, session: Session, name: str, components: list[str], state: str) -> int:
    if context.as_json:
        context.print_json(
            {
                "namespace": session.namespace,
                "name": name,
                "components": components,
                "state": state,
            }
        )
        return Exit.OK
    done = "has new" if state == "done" else "is to get new"
    context.terminal.print(
        f"{session.namespace}/{name} {done} credentials: {', '.join(components)}"
    )
    if state == "asked" and not context.arguments.release:
        context.terminal.note(f"Follow it: {context.program} status {name} --watch")
    return Exit.OK
