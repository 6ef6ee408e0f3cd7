"""Is what we want already there? A comparison that knows what an API server does to objects.

The server adds defaults, drops empty fields and writes quantities its own way, and other field
managers own fields beside ours. So only what is wanted is compared, the way server-side apply
would merge it: maps field by field, lists of keyed maps by their key, other lists and selectors
whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

# Fields whose values are quantities: "1000m" and "1" are equal there, and only there.
_QUANTITY_FIELDS = frozenset(
    {"limits", "requests", "sizeLimit", "divisor", "capacity", "averageValue"}
)

_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal("1e3"),
    "M": Decimal("1e6"),
    "G": Decimal("1e9"),
    "T": Decimal("1e12"),
    "P": Decimal("1e15"),
    "E": Decimal("1e18"),
    "Ki": Decimal(2**10),
    "Mi": Decimal(2**20),
    "Gi": Decimal(2**30),
    "Ti": Decimal(2**40),
    "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}

# How the elements of a list find their counterpart, first match wins; None is "field absent".
_LIST_KEYS: tuple[tuple[str, ...], ...] = (
    ("mountPath",),
    ("containerPort", "protocol"),
    ("port", "protocol"),
    ("uid",),
    ("name",),
)
_KEY_DEFAULTS = {"protocol": "TCP"}
# Lists of named maps that the API server nevertheless replaces as a whole.
_ATOMIC_LISTS = frozenset({"volumeClaimTemplates", "tolerations", "envFrom", "items", "sources"})
# The rules of a NetworkPolicy, with every list in them.
_ATOMIC_RULES = ("spec.ingress", "spec.egress")
# Maps that belong to one manager as a whole: one key more selects something else.
_ATOMIC_MAPS = frozenset(
    {"selector", "podSelector", "namespaceSelector", "matchLabels", "nodeSelector"}
)


class Difference(NamedTuple):
    """One field that is not as wanted: its path, what is wanted, what is there."""

    path: str
    want: Any
    have: Any

    def __str__(self) -> str:
        return f"{self.path}: {self.have!r} instead of {self.want!r}"


def quantity(text: Any) -> Decimal | None:
    """The number that a Kubernetes quantity such as ``500m`` or ``2Gi`` stands for, or None."""
    if isinstance(text, bool):
        return None
    if isinstance(text, int | float):
        return Decimal(str(text))
    if not isinstance(text, str):
        return None
    head = text.rstrip("numkMGTPEi")
    factor = _SUFFIXES.get(text[len(head) :])
    try:
        return None if factor is None else Decimal(head) * factor
    except InvalidOperation:
        return None


def differences(want: Any, have: Any) -> list[Difference]:
    """All fields of ``want`` that ``have`` does not show."""
    return list(_walk(want, have, "", in_quantity=False))


def _walk(want: Any, have: Any, path: str, *, in_quantity: bool) -> Iterator[Difference]:
    if have is None and _is_empty(want):
        return
    if isinstance(want, dict | list) and want == have and repr(want) == repr(have):
        return  # far quicker than the walk, and most parts are the same; to == alone 1 is True
    if isinstance(want, Mapping) and isinstance(have, Mapping):
        for name, value in want.items():
            yield from _walk(
                value,
                have.get(name),
                f"{path}.{name}" if path else str(name),
                in_quantity=in_quantity or name in _QUANTITY_FIELDS or name == "storage",
            )
        if path.rsplit(".", 1)[-1] in _ATOMIC_MAPS:
            for name, value in have.items():
                if name not in want and not _is_empty(value):
                    yield Difference(f"{path}.{name}", None, value)
    elif isinstance(want, list) and isinstance(have, list):
        yield from _walk_list(want, have, path, in_quantity=in_quantity)
    elif not _same(want, have, in_quantity=in_quantity):
        yield Difference(path, want, have)


def _walk_list(
    want: Sequence[Any], have: Sequence[Any], path: str, *, in_quantity: bool
) -> Iterator[Difference]:
    whole = path.rsplit(".", 1)[-1] in _ATOMIC_LISTS or path.startswith(_ATOMIC_RULES)
    fields = None if whole else _list_key(want)
    if fields is None:
        if len(want) != len(have):
            yield Difference(path, want, have)
            return
        for index, (w, h) in enumerate(zip(want, have, strict=True)):
            yield from _walk(w, h, f"{path}[{index}]", in_quantity=in_quantity)
        return
    there = {_identity(h, fields): h for h in have if isinstance(h, Mapping)}
    for element in want:
        identity = _identity(element, fields)
        label = "/".join(str(part) for part in identity)
        if identity in there:
            found = there[identity]
            yield from _walk(element, found, f"{path}[{label}]", in_quantity=in_quantity)
        else:
            yield Difference(f"{path}[{label}]", element, None)


def _list_key(elements: Sequence[Any]) -> tuple[str, ...] | None:
    """The fields that tell the elements apart, or None when they are compared by position."""
    if not elements or not all(isinstance(e, Mapping) for e in elements):
        return None
    for fields in _LIST_KEYS:
        identities = [_identity(e, fields) for e in elements]
        complete = all(fields[0] in e for e in elements)
        if complete and len(set(identities)) == len(identities):
            return fields
    return None


def _identity(element: Mapping[str, Any], fields: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(element.get(f, _KEY_DEFAULTS.get(f)) for f in fields)


def _is_empty(value: Any) -> bool:
    """What the API server does not store: absent and empty are the same to it."""
    return value is None or value is False or value in ("", 0) or value in ({}, [])


def _same(want: Any, have: Any, *, in_quantity: bool) -> bool:
    if type(want) is type(have) and want == have:
        return True
    if isinstance(want, bool) or isinstance(have, bool):
        return False
    if isinstance(want, int | float) and isinstance(have, int | float):
        return want == have
    if in_quantity:
        wanted, there = quantity(want), quantity(have)
        return wanted is not None and wanted == there
    return False
