"""``plan``: what a change would do, before it does it.

The spec is rendered as the operator renders it, and the API server says, without storing
anything, what each object would become.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core import names
from ..core.merge_patch import patched, three_way
from ..core.objects import METISRAG, Key, Object, annotations_of, key_of, meta_of
from . import changes as view
from .changes import Change
from .command import Context, add_instance
from .exits import CommandError, Exit
from .instances import find, pick
from .layout import tree
from .status_view import is_paused

if TYPE_CHECKING:
    from .reach import Session

NAME = "plan"
SUMMARY = "show what a change would do to the cluster, without doing it"
DESCRIPTION = (
    "Shows, field by field, what the operator would change if this file were applied, or these "
    "values were set, or (with neither) now: what a paused MetisRAG waits for. The API server is "
    "asked in a dry run, so its defaults and its refusals count. Secrets are never shown. Needs "
    "helm 4 on the PATH, and the right to patch the objects; without the right to patch MetisRAGs, "
    "which the operator's own account lacks too, the spec itself is not checked, and a note says "
    "so. Ends with 0 when nothing would change, with 2 when something would."
)
EXAMPLES = (
    ("plan -f metisrag.yaml", "what kubectl apply -f metisrag.yaml would do"),
    ("plan demo --set app.replicas=3 --set ollama.gpu.enabled=true", "what two values would do"),
    ("plan demo", "what resume would put back"),
)
_UNCHECKED = (
    "You may not change MetisRAGs, so the API server was not asked whether it takes this spec: the "
    "chart checks it alone."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_instance(parser)
    parser.add_argument(
        "-f", "--filename", metavar="FILE", help="a MetisRAG in YAML or JSON; - for standard input"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a field of the spec, as app.replicas=2; null takes it out; may be repeated",
    )
    parser.add_argument(
        "--values", metavar="FILE", help="a partial spec in YAML or JSON, laid over the spec"
    )


async def run(context: Context) -> int:
    """Show it."""
    arguments = context.arguments
    if arguments.filename and (arguments.name or arguments.set or arguments.values):
        raise CommandError(
            "-f names the whole MetisRAG.", "Leave out NAME, --set and --values.", Exit.USAGE
        )
    from .planning import changes_of  # with it comes all that renders

    patch = patch_of(arguments.set, arguments.values)
    async with context.connect() as session:
        remarks: list[str] = []
        if arguments.filename:
            live, wanted = await _from_file(session, arguments.filename, remarks)
        else:
            live = await pick(session, arguments.name)
            wanted = await _changed(session, live, patch, remarks) if patch else live
        found, more = await changes_of(session, live, wanted)
    _show(context, wanted, found, remarks + more)
    return Exit.ATTENTION if found else Exit.OK


def _show(context: Context, wanted: Object, found: list[Change], remarks: list[str]) -> None:
    meta, terminal = meta_of(wanted), context.terminal
    if is_paused(wanted):
        remarks = [*remarks, "It is paused: nothing of this happens before `resume`."]
    if context.as_json:
        context.print_json(
            {
                "namespace": meta["namespace"],
                "name": meta["name"],
                "changes": [view.as_json(c) for c in found],
                "remarks": remarks,
            }
        )
        return
    for remark in remarks:
        terminal.note(f"note: {remark}")
    for line in tree(view.trees(found), terminal):
        terminal.print(line)
    if found:
        terminal.print()
    terminal.print(f"{meta['namespace']}/{meta['name']}: {view.verdict(found)}")


def patch_of(settings: Iterable[str], values_file: str | None) -> dict[str, Any]:
    """The merge patch of a spec that ``--values`` and then each ``--set`` ask for.

    Raises:
        CommandError: one of them cannot be read.
    """
    patch: dict[str, Any] = {}
    if values_file:
        loaded = _load(values_file)
        if len(loaded) != 1 or not isinstance(loaded[0], dict):
            raise CommandError(f"{values_file} is no map.", "Give a partial spec.", Exit.USAGE)
        patch = loaded[0]
    for setting in settings:
        path, sign, text = setting.partition("=")
        if not sign or not all(path.split(".")):
            cure = "Write it as --set app.replicas=2"
            raise CommandError(f"--set {setting} has no key or no value.", cure, Exit.USAGE)
        here = patch
        *above, last = path.split(".")
        for part in above:
            below = here.get(part)
            here[part] = below if isinstance(below, dict) else {}
            here = here[part]
        here[last] = _parse(text, f"--set {path}")
    return patch


async def _changed(
    session: Session, live: Object, patch: Mapping[str, Any], remarks: list[str]
) -> Object:
    """``live`` with its spec patched, by the API server where one may ask it."""
    key, whole = key_of(live, METISRAG), {"spec": patch}
    if await _may(session, "patch", key.namespace):
        return await session.rest.dry_merge(key, whole)
    remarks.append(_UNCHECKED)
    return dict(patched(live, whole))


async def _may(session: Session, verb: str, namespace: str) -> bool:
    """Whether the user has that right to MetisRAGs."""
    asked = {"verb": verb, "group": names.GROUP, "resource": names.PLURAL, "namespace": namespace}
    found = await session.rest.review("selfsubjectaccessreviews", {"resourceAttributes": asked})
    return bool(found.get("allowed"))


async def _from_file(
    session: Session, name: str, remarks: list[str]
) -> tuple[Object | None, Object]:
    """The MetisRAG as it is, if it is there, and as applying the file would make it."""
    found = [d for d in _load(name) if isinstance(d, dict) and d.get("kind") == names.KIND]
    if len(found) != 1:
        what = f"{name} holds {len(found) or 'no'} MetisRAG{'s' if len(found) > 1 else ''}."
        raise CommandError(what, "Give a file with one.", Exit.USAGE)
    wanted = dict(found[0])
    meta = dict(wanted.get("metadata") or {})
    if not meta.get("name"):
        raise CommandError(f"The MetisRAG in {name} has no name.", "Set metadata.name.", Exit.USAGE)
    meta.setdefault("namespace", session.namespace)
    wanted["metadata"] = meta
    key = Key(METISRAG, meta["namespace"], meta["name"])
    live = await find(session, key.namespace, key.name)
    if live is None:
        if await _may(session, "create", key.namespace):
            return None, await session.rest.dry_create(key, wanted)
        remarks.append(_UNCHECKED)
        return None, wanted
    last = annotations_of(live).get("kubectl.kubernetes.io/last-applied-configuration", "{}")
    patch = three_way(json.loads(last).get("spec") or {}, wanted.get("spec") or {})
    return live, await _changed(session, live, patch, remarks)


def _load(name: str) -> list[Any]:
    import yaml

    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        return [d for d in yaml.safe_load_all(text) if d is not None]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        said = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise CommandError(f"{name} cannot be read: {said}.", "", Exit.USAGE) from error


def _parse(text: str, where: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CommandError(f"{where}: {text!r} is no value.", "Quote it.", Exit.USAGE) from error
