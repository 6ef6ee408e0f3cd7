"""What the operator knows of the cluster: its MetisRAGs and their children, kept in memory.

Watch events and answers to our own writes feed it. A list of a whole kind corrects what a
broken watch has missed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from .core import names, slots
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


class Store:
    """The objects last seen. Not to be changed by readers.

    Events, answers and lists arrive in any order; the resource version says which knows more.
    """

    def __init__(self) -> None:
        self._resources: dict[Instance, Object] = {}
        self._children: dict[Instance, dict[Key, Object]] = {}
        self._homes: dict[Key, Instance] = {}
        # The version at which an object was last known to be gone, by uid.
        self._gone: OrderedDict[str, str] = OrderedDict()

    def resource(self, instance: Instance) -> Object | None:
        """The MetisRAG, or None when there is none."""
        return self._resources.get(instance)

    def resources(self) -> list[Instance]:
        """All MetisRAGs there are."""
        return list(self._resources)

    def children(self, instance: Instance) -> Mapping[Key, Object]:
        """The known objects that carry the instance's label, a view."""
        return MappingProxyType(self._children.get(instance, {}))

    def put(self, kind: Kind, obj: Mapping[str, Any]) -> Instance | None:
        """Note ``obj`` as it is now. Gives whom that concerns, or None when it is no news.

        Of a child whose label names another instance now, that is the former one.
        """
        key = key_of(obj, kind)
        gone = self._gone.get(uid_of(obj))
        if gone is not None and not _is_later(_version(obj), gone):
            return None
        known = self._known(key)
        same = known is not None and uid_of(known) == uid_of(obj)
        if known is not None and same and not _is_later(_version(obj), _version(known)):
            return None
        former = self._remove(key)
        instance = _instance_of(kind, obj)
        if instance is None:
            return former
        if kind is METISRAG:
            self._resources[instance] = slim(kind, obj)
        else:
            self._children.setdefault(instance, {})[key] = slim(kind, obj)
        self._homes[key] = instance
        return former or instance

    def drop(self, kind: Kind, obj: Mapping[str, Any]) -> Instance | None:
        """Note that ``obj`` is gone, or no longer carries the labels it is chosen by."""
        return self._drop(key_of(obj, kind), uid_of(obj), _version(obj))

    def replace(
        self,
        kind: Kind,
        objects: Iterable[Mapping[str, Any]],
        version: str,
        namespace: str | None = None,
    ) -> set[Instance]:
        """Make a full list of ``kind``, as of ``version``, the truth; gives all whom that concerns.

        What is known to be later than the list stays as it is.
        """
        concerned: set[Instance | None] = set()
        listed: set[str] = set()
        for obj in objects:
            listed.add(uid_of(obj))
            concerned.add(self.put(kind, obj))
        for key in [k for k in self._homes if k.kind is kind and namespace in (None, k.namespace)]:
            known = self._known(key)
            if (
                known is not None
                and uid_of(known) not in listed
                and not _is_later(_version(known), version)
            ):
                concerned.add(self._drop(key, uid_of(known), version))
        return {instance for instance in concerned if instance is not None}

    def _known(self, key: Key) -> Object | None:
        home = self._homes.get(key)
        if home is None:
            return None
        if key.kind is METISRAG:
            return self._resources.get(home)
        return self._children.get(home, {}).get(key)

    def _drop(self, key: Key, uid: str, version: str) -> Instance | None:
        self._gone[uid] = version
        if len(self._gone) > _REMEMBERED:
            self._gone.popitem(last=False)
        known = self._known(key)
        if known is None or uid_of(known) != uid:
            return None
        return self._remove(key)

    def _remove(self, key: Key) -> Instance | None:
        """Take the object off its shelf; gives whose it was."""
        home = self._homes.pop(key, None)
        if home is not None and key.kind is METISRAG:
            self._resources.pop(home, None)
        elif home is not None:
            shelf = self._children[home]
            del shelf[key]
            if not shelf:
                del self._children[home]
        return home


def _instance_of(kind: Kind, obj: Mapping[str, Any]) -> Instance | None:
    meta = meta_of(obj)
    if kind is METISRAG:
        return Instance(meta["namespace"], meta["name"])
    name = labels_of(obj).get(names.LABEL_INSTANCE)
    return Instance(meta["namespace"], name) if name else None


def _version(obj: Mapping[str, Any]) -> str:
    return str(meta_of(obj).get("resourceVersion", ""))


def _is_later(version: str, other: str) -> bool:
    """Whether one resource version comes after another; what cannot be compared is news."""
    if version.isdigit() and other.isdigit():
        return int(version) > int(other)
    return version != other
