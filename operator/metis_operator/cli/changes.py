"""What a plan would change, field by field. Pure: objects before and after go in.

No secret is ever shown: of a Secret only the names of its keys, and of any field whose name
speaks of a password, token or key no value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..core import names
from ..core.compare import Difference, differences
from ..core.manifests import component_of
from ..core.objects import SECRET, Key, Object
from .layout import Node

HIDDEN = "(hidden)"
_LONGEST = 60
# What the API server keeps for itself, or the operator for its own book-keeping.
_NOISE = frozenset(
    {
        "managedFields",
        "resourceVersion",
        "generation",
        "uid",
        "creationTimestamp",
        "selfLink",
        "deletionTimestamp",
    }
)
_BOOKKEEPING = frozenset(
    {names.ANNOTATION_DIGEST, "kubectl.kubernetes.io/last-applied-configuration"}
)
_SENSITIVE = re.compile(r"(?i)passw|secret|token|credential|(api|private|access|auth)[-_]?key")
# They say where a secret is, not what it is.
_POINTERS = re.compile(r"(existingSecret|[pP]ullSecrets|secretName|(?i:file|path|dir|url))$")


class Field(NamedTuple):
    """One field that changes; None stands for absent."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Change:
    """What becomes of one object: ``add``, ``change``, ``remove``, ``replace`` or ``conflict``."""

    key: Key
    action: str
    fields: Sequence[Field] = ()
    why: str = ""
    component: str = ""
    restarts: bool = False
    """Whether its pods are replaced."""


def of_apply(key: Key, before: Object | None, after: Object) -> Change | None:
    """The change that an apply makes; None when it makes none that anyone would care about."""
    component = component_of(after)
    if before is None:
        return Change(key, "add", component=component)
    fields = compared(before, after, secret=key.kind is SECRET)
    if not fields:
        return None
    restarts = key.kind.is_workload and any(f.path.startswith("spec.template.") for f in fields)
    return Change(key, "change", fields, component=component, restarts=restarts)


def compared(
    before: Mapping[str, Any], after: Mapping[str, Any], *, secret: bool = False
) -> list[Field]:
    """The fields that differ, by path."""
    old, new = _essence(before), _essence(after)
    found = {d.path: Field(d.path, d.have, d.want) for d in differences(new, old)}
    for gone in differences(old, new):
        if gone.have is None and not _covered(gone, found):
            found[gone.path] = Field(gone.path, gone.want, None)
    changed = {f.path: f for whole in found.values() for f in _leaves(whole)}
    return [_masked(f, secret=secret) for f in sorted(changed.values(), key=lambda f: f.path)]


def _leaves(field: Field) -> Iterator[Field]:
    """A map that comes or goes leaf by leaf; the elements of lists stay whole."""
    value = field.before if field.after is None else field.after
    one_sided = field.before is None or field.after is None
    if not (one_sided and isinstance(value, Mapping) and value) or field.path.endswith("]"):
        yield field
        return
    for name, below in value.items():
        path = f"{field.path}.{name}"
        gone = field.after is None
        yield from _leaves(Field(path, below, None) if gone else Field(path, None, below))


def _covered(gone: Difference, changed: Iterable[str]) -> bool:
    return any(
        gone.path == path or gone.path.startswith((f"{path}.", f"{path}[")) for path in changed
    )


def _essence(obj: Mapping[str, Any]) -> dict[str, Any]:
    """``obj`` without its status and what nobody set on purpose."""
    kept = {k: v for k, v in obj.items() if k not in ("status", "apiVersion", "kind")}
    meta = {k: v for k, v in (obj.get("metadata") or {}).items() if k not in _NOISE}
    annotations = {
        k: v for k, v in (meta.get("annotations") or {}).items() if k not in _BOOKKEEPING
    }
    meta["annotations"] = annotations
    return {**kept, "metadata": {k: v for k, v in meta.items() if v}}


def _masked(field: Field, *, secret: bool) -> Field:
    name = _subject(field.path)
    whole = secret and field.path.split(".")[0] in ("data", "stringData")
    before, after = (HIDDEN if whole and v is not None else _mask(v, name) for v in field[1:])
    if before == after == HIDDEN:
        after = "(another, hidden)"
    return Field(field.path, before, after)


def _subject(path: str) -> str:
    """What the value at ``path`` is the value of: for ``env[NAME].value`` it is NAME."""
    parts = [p for p in re.split(r"[.\[\]]", path) if p]
    return parts[-2] if len(parts) > 1 and parts[-1] == "value" else parts[-1]


def _mask(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        named = str(value.get("name", ""))
        return {k: _mask(v, named if k == "value" else k) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_mask(v, name) for v in value]
    if isinstance(value, str) and _SENSITIVE.search(name) and not _POINTERS.search(name):
        return HIDDEN
    return value


def as_json(change: Change) -> dict[str, Any]:
    """A change for programs."""
    return {
        "action": change.action,
        "kind": change.key.kind.kind,
        "name": change.key.name,
        "component": change.component,
        "restarts": change.restarts,
        "why": change.why,
        "fields": [f._asdict() for f in change.fields],
    }


_SIGNS = {
    "add": ("+", "good"),
    "change": ("~", "warn"),
    "replace": ("±", "warn"),
    "remove": ("-", "bad"),
    "conflict": ("!", "bad"),
}


def trees(changes: Sequence[Change]) -> list[Node]:
    """A tree for each object that changes."""
    return [_tree(c) for c in changes]


def _tree(change: Change) -> Node:
    sign, style = _SIGNS[change.action]
    fields = [Node(cells=[f"{f.path}: {_words(f)}"], styles=(_style(f),)) for f in change.fields]
    if change.action == "conflict":
        return Node(
            [sign, str(change.key)], styles=(style, "strong"), children=[Node([change.why])]
        )
    words = [change.why, "its pods are replaced" if change.restarts else ""]
    return Node(
        cells=[sign, str(change.key), "; ".join(w for w in words if w)],
        styles=(style, "strong", "dim"),
        children=fields,
    )


def _style(field: Field) -> str:
    return "good" if field.before is None else "bad" if field.after is None else "warn"


def _words(field: Field) -> str:
    if field.before is None:
        return f"+ {short(field.after)}"
    if field.after is None:
        return f"- {short(field.before)}"
    return f"{short(field.before)} → {short(field.after)}"


def short(value: Any) -> str:
    """``value`` on one line, cut where it is long."""
    if isinstance(value, Mapping):
        text = "{" + ", ".join(f"{k}: {short(v)}" for k, v in value.items()) + "}"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(map(short, value)) + "]"
    elif isinstance(value, bool):
        text = str(value).lower()
    else:
        text = str(value) if value != "" else '""'
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def verdict(changes: Sequence[Change]) -> str:
    """All of it in a sentence."""
    if not changes:
        return "Nothing would change."
    counts = {a: sum(c.action == a for c in changes) for a in _SIGNS}
    words = ("to add", "to change", "to replace", "to remove", "in the way")
    parts = [f"{n} {w}" for (_, n), w in zip(counts.items(), words, strict=True) if n]
    restarted = sorted({c.component for c in changes if c.restarts and c.component})
    pods = f" New pods: {', '.join(restarted)}." if restarted else ""
    return f"{', '.join(parts)}.{pods}"
