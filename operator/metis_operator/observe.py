"""What the operator knows of the cluster: its MetisRAGs and their children, kept in memory.

Watch events and answers to our own writes feed it. A list of a whole kind corrects what a
broken watch has missed. Objects are kept packed (an instance takes some 20 kB so, instead of 260)
and unpacked when a reconcile looks at them.
"""

from __future__ import annotations

import functools
import pickle
import sys
import zlib
from collections import Counter, OrderedDict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

from .core import names, slots
from .core.conditions import Phase
from .core.objects import (
    METISRAG,
    OBSERVED,
    POD,
    PVC,
    RENDERED,
    SECRET,
    Key,
    Kind,
    Object,
    annotations_of,
    key_of,
    labels_of,
    meta_of,
    uid_of,
)

# How many objects that are gone are remembered as such.
_REMEMBERED = 5000

WATCHED = (METISRAG, *RENDERED, SECRET, *OBSERVED)

_POD_SPEC = ("containers", "initContainers", "nodeName")
_CONTAINER = ("name", "image", "resources", "startupProbe", "readinessProbe")
# What a client-side kubectl apply leaves: the whole object once more.
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_META = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "labels",
    "annotations",
    "ownerReferences",
    "deletionTimestamp",
    "creationTimestamp",
)


class Instance(NamedTuple):
    """The namespace and name of a MetisRAG, there or not."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def selector_of(kind: Kind) -> Mapping[str, str]:
    """The labels by which the objects of ``kind`` that matter are chosen on the server."""
    if kind is METISRAG:
        return {}
    if kind in OBSERVED:
        return {names.LABEL_NAME: names.PRODUCT}
    return {names.LABEL_MANAGED_BY: names.FIELD_MANAGER}


def slim(kind: Kind, obj: Mapping[str, Any]) -> Object:
    """``obj`` without what no decision needs: managed fields, most of a pod, all secret values."""
    kept = {k: v for k, v in obj.items() if k != "metadata"}
    kept["metadata"] = {k: v for k, v in meta_of(obj).items() if k in _META}
    if _LAST_APPLIED in annotations_of(obj):
        left = {k: v for k, v in annotations_of(obj).items() if k != _LAST_APPLIED}
        kept["metadata"]["annotations"] = left
    if kind is SECRET:
        kept["data"] = dict.fromkeys(obj.get("data") or {}, "")
        kept["held"] = slots.held_of(obj)
    elif kind is POD:
        kept["metadata"].pop("annotations", None)
        spec = obj.get("spec") or {}
        kept["spec"] = {k: spec[k] for k in _POD_SPEC if k in spec}
        for part in ("containers", "initContainers"):
            if part in kept["spec"]:
                kept["spec"][part] = [
                    {k: c[k] for k in _CONTAINER if k in c} for c in kept["spec"][part]
                ]
    elif kind is PVC:
        kept["metadata"].pop("annotations", None)
    return kept


class Packed(NamedTuple):
    """An object as it is kept: what tells it apart, whose it is, and the rest in one piece."""

    key: Key
    home: Instance | None
    uid: str
    version: str
    phase: str  # of a MetisRAG
    content: bytes

    def unpacked(self) -> Object:
        """The object, slim; not to be changed, as others may look at the same."""
        return _unpacked(self.content)


def pack(kind: Kind, obj: Mapping[str, Any]) -> Packed:
    """``obj`` as the store keeps it."""
    content = pickle.dumps(slim(kind, obj), protocol=pickle.HIGHEST_PROTOCOL)
    phase = str((obj.get("status") or {}).get("phase") or Phase.PENDING)
    return Packed(
        key_of(obj, kind),
        _instance_of(kind, obj),
        uid_of(obj),
        _version(obj),
        sys.intern(phase) if kind is METISRAG else "",
        zlib.compress(content, 1),
    )


@functools.lru_cache(maxsize=256)  # enough for the reconciles in flight
def _unpacked(content: bytes) -> Object:
    return cast("Object", pickle.loads(zlib.decompress(content)))  # noqa: S301  our own, never stored


class Shelf(Mapping[Key, Object]):
    """The children of one instance, a view that unpacks what is looked at."""

    def __init__(self, packed: Mapping[Key, Packed]) -> None:
        self._packed = packed

    def __getitem__(self, key: Key) -> Object:
        return self._packed[key].unpacked()

    def __contains__(self, key: object) -> bool:
        return key in self._packed

    def __iter__(self) -> Iterator[Key]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


class Store:
    """The objects last seen. Not to be changed by readers.

    Events, answers and lists arrive in any order; the resource version says which knows more.
    """

    def __init__(self) -> None:
        self._known: dict[Key, Packed] = {}
        self._resources: dict[Instance, Packed] = {}
        self._children: dict[Instance, dict[Key, Packed]] = {}
        self.phases: Counter[str] = Counter()
        # The version at which an object was last known to be gone, by uid.
        self._gone: OrderedDict[str, str] = OrderedDict()
        # What an object was found to be as wanted by, as it is now: the digest of the manifest.
        self._settled: dict[Key, str] = {}
        self._writing: Counter[Key] = Counter()
        self._held: dict[Key, list[Callable[[], None]]] = {}

    def resource(self, instance: Instance) -> Object | None:
        """The MetisRAG, or None when there is none."""
        found = self._resources.get(instance)
        return None if found is None else found.unpacked()

    def resources(self) -> list[Instance]:
        """All MetisRAGs there are."""
        return list(self._resources)

    def children(self, instance: Instance) -> Mapping[Key, Object]:
        """The known objects that carry the instance's label, a view."""
        return Shelf(self._children.get(instance, {}))

    def put(self, kind: Kind, obj: Mapping[str, Any]) -> Instance | None:
        """Note ``obj`` as it is now. Gives whom that concerns, or None when it is no news.

        Of a child whose label names another instance now, that is the former one.
        """
        if not self._is_news(key_of(obj, kind), uid_of(obj), _version(obj)):
            return None
        return self._take(pack(kind, obj))

    def settle(self, key: Key, digest: str, looked_at: Mapping[str, Any]) -> None:
        """Note that the object, as looked at, shows all of the manifest of that digest.

        Unless something else is known of it by now.
        """
        known = self._known.get(key)
        if known and (known.uid, known.version) == (uid_of(looked_at), _version(looked_at)):
            self._settled[known.key] = digest

    def is_settled(self, key: Key, digest: str) -> bool:
        """Whether that was noted of the object, and it has not changed since."""
        return self._settled.get(key) == digest

    @contextmanager
    def writing(self, *keys: Key) -> Iterator[None]:
        """While we write objects: what others tell of them is held back.

        The answers, to be put before the end, then show whether it is news.
        """
        self._writing.update(keys)
        try:
            yield
        finally:
            self._writing.subtract(keys)
            for key in keys:
                if not self._writing[key]:
                    del self._writing[key]
                    for call in self._held.pop(key, ()):
                        call()

    def when_written(self, key: Key, call: Callable[[], None]) -> None:
        """``call()`` at once, or at the end of our own writing of that object."""
        if key in self._writing:
            self._held.setdefault(key, []).append(call)
        else:
            call()

    def drop(self, kind: Kind, obj: Mapping[str, Any]) -> Instance | None:
        """Note that ``obj`` is gone, or no longer carries the labels it is chosen by."""
        return self._drop(key_of(obj, kind), uid_of(obj), _version(obj))

    def replace(
        self,
        kind: Kind,
        objects: Iterable[Packed],
        version: str,
        namespace: str | None = None,
    ) -> set[Instance]:
        """Make a full list of ``kind``, as of ``version``, the truth; gives all whom that concerns.

        What is known to be later than the list stays as it is.
        """
        concerned: set[Instance | None] = set()
        listed: set[str] = set()
        for packed in objects:
            listed.add(packed.uid)
            if self._is_news(packed.key, packed.uid, packed.version):
                concerned.add(self._take(packed))
        for known in list(self._known.values()):
            if known.key.kind is not kind or namespace not in (None, known.key.namespace):
                continue
            if known.uid not in listed and not _is_later(known.version, version):
                concerned.add(self._drop(known.key, known.uid, version))
        return {instance for instance in concerned if instance is not None}

    def has_others(self, kind: Kind, uids: Container[str]) -> bool:
        """Whether an object of ``kind`` is known that is not among ``uids``."""
        return any(k.key.kind is kind and k.uid not in uids for k in self._known.values())

    def _is_news(self, key: Key, uid: str, version: str) -> bool:
        gone = self._gone.get(uid)
        if gone is not None and not _is_later(version, gone):
            return False
        known = self._known.get(key)
        return known is None or known.uid != uid or _is_later(version, known.version)

    def _take(self, packed: Packed) -> Instance | None:
        former = self._remove(packed.key)
        if packed.home is None:
            return former
        self._known[packed.key] = packed
        if packed.key.kind is METISRAG:
            self._resources[packed.home] = packed
            self.phases[packed.phase] += 1
        else:
            self._children.setdefault(packed.home, {})[packed.key] = packed
        return former or packed.home

    def _drop(self, key: Key, uid: str, version: str) -> Instance | None:
        self._gone[uid] = version
        if len(self._gone) > _REMEMBERED:
            self._gone.popitem(last=False)
        known = self._known.get(key)
        if known is None or known.uid != uid:
            return None
        return self._remove(key)

    def _remove(self, key: Key) -> Instance | None:
        """Take the object off its shelf; gives whose it was."""
        known = self._known.pop(key, None)
        self._settled.pop(key, None)
        if known is None or known.home is None:
            return None
        if key.kind is METISRAG:
            del self._resources[known.home]
            self.phases[known.phase] -= 1
        else:
            shelf = self._children[known.home]
            del shelf[key]
            if not shelf:
                del self._children[known.home]
        return known.home


def _instance_of(kind: Kind, obj: Mapping[str, Any]) -> Instance | None:
    meta = meta_of(obj)
    name = meta["name"] if kind is METISRAG else labels_of(obj).get(names.LABEL_INSTANCE)
    return Instance(sys.intern(meta["namespace"]), sys.intern(name)) if name else None


def _version(obj: Mapping[str, Any]) -> str:
    return str(meta_of(obj).get("resourceVersion", ""))


def _is_later(version: str, other: str) -> bool:
    """Whether one resource version comes after another; what cannot be compared is news."""
    if version.isdigit() and other.isdigit():
        return int(version) > int(other)
    return version != other
