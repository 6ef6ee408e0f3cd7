"""From the chart's rendering to the objects that the operator applies."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import ManifestError
from . import names
from .objects import (
    PVC,
    RENDERED,
    SECRET,
    Key,
    Kind,
    Object,
    Owner,
    annotations_of,
    containers_of,
    key_of,
    kind_of,
    labels_of,
    of_kind,
    pod_spec_of,
)

_LEFT_OUT = {names.ANNOTATION_HOOK, names.ANNOTATION_HELM_ONLY}


def build(rendered: Iterable[Any], owner: Owner) -> dict[Key, Object]:
    """The objects to apply for ``owner``, from the documents that the chart rendered.

    Helm hooks, and what is for Helm alone, are left out (the operator does their work itself).
    Every object gets the operator's managed-by label, the owner reference and a digest of itself.
    The documents are not changed.

    Raises:
        ManifestError: the chart rendered a kind that the operator does not manage, or one
            object twice.
    """
    objects: dict[Key, Object] = {}
    for document in rendered:
        if not isinstance(document, Mapping) or _LEFT_OUT & annotations_of(document).keys():
            continue
        kind = kind_of(document)
        if kind not in RENDERED or kind is None:
            raise ManifestError(_unmanaged(document))
        obj = _prepare(document, kind, owner)
        key = key_of(obj, kind)
        if key in objects:
            raise ManifestError(f"The chart renders {key} twice; it must be named once only.")
        objects[key] = obj
    return objects


def digest(obj: Mapping[str, Any]) -> str:
    """A short fingerprint of an object's content; key order does not matter."""
    canonical = json.dumps(obj, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def digest_of(live: Mapping[str, Any]) -> str:
    """The digest that ``live`` was last applied with; empty when it was not by the operator."""
    return annotations_of(live).get(names.ANNOTATION_DIGEST, "")


def component_of(obj: Mapping[str, Any]) -> str:
    """The component of the stack that ``obj`` belongs to; empty when it says none."""
    return labels_of(obj).get(names.LABEL_COMPONENT, "")


def find_component(objects: Mapping[Key, Object], component: str, kind: Kind) -> Object | None:
    """The object of that kind that belongs to ``component``, or None."""
    found = of_kind(objects, kind).values()
    return next((o for o in found if component_of(o) == component), None)


def environment(workload: Mapping[str, Any], name: str) -> str:
    """The plain value of an environment variable in any container; empty when there is none."""
    for container in containers_of(pod_spec_of(workload)):
        for variable in container.get("env") or ():
            if variable.get("name") == name and "value" in variable:
                return str(variable["value"])
    return ""


def mounted_secrets(objects: Iterable[Mapping[str, Any]]) -> set[str]:
    """The names of all Secrets that pods of ``objects`` mount and cannot start without."""
    found: set[str] = set()
    for obj in objects:
        for volume in pod_spec_of(obj).get("volumes") or ():
            secret = volume.get("secret") or {}
            if secret.get("secretName") and not secret.get("optional"):
                found.add(secret["secretName"])
            for source in (volume.get("projected") or {}).get("sources") or ():
                secret = source.get("secret") or {}
                if secret.get("name") and not secret.get("optional"):
                    found.add(secret["name"])
    return found


def certificate_secret(pod: Mapping[str, Any]) -> str:
    """The Secret with the certificate that the pod (or pod template) serves with; or ""."""
    volumes = pod_spec_of(pod).get("volumes") or (pod.get("spec") or {}).get("volumes") or ()
    found = [(v.get("secret") or {}).get("secretName") for v in volumes if v["name"] == "tls"]
    return str(found[0]) if found and found[0] else ""


def _prepare(document: Mapping[str, Any], kind: Kind, owner: Owner) -> Object:
    obj = dict(document)
    meta = dict(obj.get("metadata") or {})
    if not meta.get("name"):
        raise ManifestError(f"The chart renders a {kind.kind} without a name.")
    if meta.get("namespace", owner.namespace) != owner.namespace:
        raise ManifestError(
            f"The chart puts {kind.kind}/{meta['name']} into namespace {meta['namespace']}, "
            f"but its MetisRAG is in {owner.namespace}: a stack stays in one namespace."
        )
    meta["namespace"] = owner.namespace
    meta["labels"] = {
        **(meta.get("labels") or {}),
        names.LABEL_MANAGED_BY: names.FIELD_MANAGER,
        names.LABEL_INSTANCE: owner.name,
    }
    if kind not in (PVC, SECRET):
        meta["ownerReferences"] = [owner.reference]
    obj["metadata"] = meta
    meta["annotations"] = {
        **(meta.get("annotations") or {}),
        names.ANNOTATION_DIGEST: digest(obj),
    }
    return obj


def _unmanaged(document: Mapping[str, Any]) -> str:
    meta = document.get("metadata") or {}
    return (
        f"The chart renders {document.get('kind')}/{meta.get('name')} "
        f"({document.get('apiVersion')}), a kind that this operator does not manage: "
        "the chart and the operator are of different versions."
    )
