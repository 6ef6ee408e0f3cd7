"""From a wanted spec to the changes of all objects, asked of the API server in a dry run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..core import conditions, credentials, gpu, manifests, names, volumes
from ..core.gpu import Phase, Wish
from ..core.objects import (
    CONFIG_MAP,
    DEPLOYMENT,
    METISRAG,
    PVC,
    RENDERED,
    SECRET,
    Key,
    Kind,
    Object,
    Owner,
    key_of,
    labels_of,
    meta_of,
)
from ..core.plan import Action, Apply, Conflict, Keep, Prune, plan
from ..core.values import get, merge
from ..errors import ClusterError, ManifestError, NotFoundError
from ..gpu import state_of
from ..render import HelmUnavailableError, Renderer
from ..rotation_subject import follows_of
from ..run import gather
from . import changes as view
from .changes import Change, Field
from .exits import CommandError
from .operators import operator_of
from .process import version
from .reach import Session

_OPERATOR_LABELS = {names.LABEL_NAME: "metis-operator"}
# Answers that are about us, or about now, and not about the object.
_NOT_ABOUT_IT = frozenset({0, 401, 403, 429, 500, 502, 503, 504})
_NO_UID = "00000000-0000-0000-0000-000000000000"


async def changes_of(
    session: Session, live: Object | None, wanted: Object
) -> tuple[list[Change], list[str]]:
    """What the operator would change if the MetisRAG became ``wanted``, and remarks on that.

    Raises:
        RenderError: the chart refuses the spec.
        CommandError: there is no chart or no Helm to render it with.
        ClusterError: the user may not do what the operator would.
    """
    meta = meta_of(wanted)
    owner = Owner(str(meta["name"]), str(meta["namespace"]), str(meta.get("uid") or _NO_UID))
    defaults, remarks = await _defaults(session, owner.namespace)
    values = merge(defaults, wanted.get("spec") or {})
    # While no node has the GPUs, the operator renders without: the plan is made for what is.
    noted, wish = state_of((live or {}).get("status") or {}), Wish.of(values, _chart_values())
    on_cpu = noted and wish and noted.phase is Phase.CPU and noted.wish == wish.digest
    desired = await _desired(owner, gpu.on_cpu(values) if on_cpu else values)
    observed = await _observed(session, owner, desired)
    spec = wanted.get("spec") or {}
    grown = await gather(_of_growth(session, e) for e in volumes.growth(desired, observed))
    refused = [
        Change(key_of(wanted, METISRAG), "conflict", why=s.message)
        for s in volumes.immovable(desired, observed, spec)
    ]
    # As the operator does: a claim template says what the volumes are, not what they should be.
    observed |= {c.key: obj for c, obj in grown if obj is not None}
    desired = volumes.pinned(desired, observed)
    inventory = conditions.inventory_of((live or {}).get("status") or {}, owner.namespace)
    kept = get(values, "deletionPolicy") != "Delete"
    actions = plan(desired, observed, inventory, owner, keep_data=kept)
    found = [
        *_of_resource(live, wanted),
        *refused,
        *(change for change, _ in grown),
        *await _of_secrets(session, owner, desired, values),
        *await gather(_of_action(session, action, observed) for action in actions),
    ]
    return [c for c in found if c is not None], remarks


def chart_dir() -> Path:
    """The chart of this version: that of the image, of the installed package, or of a checkout.

    Raises:
        CommandError: there is none.
    """
    package = Path(__file__).resolve().parents[1]
    given = os.environ.get("METIS_CHART_DIR")
    places = [Path(given)] if given else []
    places += [
        package / "charts" / "stack",
        package.parent / "charts" / "stack",
        package.parents[1] / "charts" / "stack",
    ]
    for place in places:
        if (place / "Chart.yaml").is_file():
            return place
    raise CommandError("The chart is not there.", "Set METIS_CHART_DIR to charts/stack.")


def _chart_values() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((chart_dir() / "values.yaml").read_text("utf-8"))
    return loaded


async def _desired(owner: Owner, values: Mapping[str, Any]) -> dict[Key, Object]:
    helm = os.environ.get("METIS_HELM", "helm")
    try:
        rendered = await Renderer(chart_dir(), helm).render(owner.name, owner.namespace, values)
        return manifests.build(rendered, owner)
    except HelmUnavailableError as error:
        raise CommandError(
            f"{error}.", "A plan takes helm 4: put it on the PATH, or set METIS_HELM to it."
        ) from error
    except ManifestError as error:
        raise CommandError(str(error), "Use the same version here as in the cluster.") from error


async def _defaults(session: Session, namespace: str) -> tuple[Mapping[str, Any], list[str]]:
    """The operator's defaults as they are in the cluster, and what is to be said about that."""
    selector = ",".join(f"{k}={v}" for k, v in _OPERATOR_LABELS.items())
    try:
        found = await session.rest.items(DEPLOYMENT, params={"labelSelector": selector})
    except ClusterError as error:
        if error.code != 403:
            raise
        return {}, ["You may not look for the operator: its defaults are left out of this plan."]
    operator = operator_of(found, namespace)
    if operator is None:
        return {}, ["No operator looks after this namespace: nothing would be done. See: doctor"]
    remarks = []
    theirs, ours = labels_of(operator).get("app.kubernetes.io/version", ""), version()
    if theirs and theirs != ours:
        remarks.append(f"The operator is version {theirs}, this is {ours}: it may plan otherwise.")
    where = meta_of(operator)
    try:
        key = Key(CONFIG_MAP, str(where["namespace"]), str(where["name"]))
        config = await session.cluster.get(key)
    except ClusterError as error:
        if error.code != 403:
            raise
        return {}, [*remarks, "You may not read the operator's defaults: they are left out."]
    text = ((config or {}).get("data") or {}).get("defaults.yaml", "")
    return yaml.safe_load(text) or {}, remarks


async def _observed(session: Session, owner: Owner, desired: Iterable[Key]) -> dict[Key, Object]:
    """What there is of the desired objects, and what carries the instance's labels."""
    labels = {names.LABEL_MANAGED_BY: names.FIELD_MANAGER, names.LABEL_INSTANCE: owner.name}
    ours = {names.LABEL_NAME: names.PRODUCT, names.LABEL_INSTANCE: owner.name}
    kinds = {**dict.fromkeys(RENDERED, labels), PVC: ours}
    lists = await gather(_list(session, k, owner.namespace, by) for k, by in kinds.items())
    found: dict[Key, Object] = {}
    for kind, objects in zip(kinds, lists, strict=True):
        found |= {key_of(obj, kind): obj for obj in objects}
    missing = [key for key in desired if key not in found]
    others = await gather(session.cluster.get(key) for key in missing)
    return found | {k: o for k, o in zip(missing, others, strict=True) if o is not None}


async def _list(
    session: Session, kind: Kind, namespace: str, labels: Mapping[str, str]
) -> list[Object]:
    try:
        found, _ = await session.cluster.list(kind, namespace=namespace, selector=labels)
    except NotFoundError:
        if not kind.optional:
            raise
        return []
    return found


def _of_resource(live: Object | None, wanted: Object) -> list[Change]:
    key = key_of(wanted, METISRAG)
    if live is None:
        return [Change(key, "add")]
    before, after = ({"spec": o.get("spec") or {}} for o in (live, wanted))
    fields = view.compared(before, after)
    return [Change(key, "change", fields)] if fields else []


async def _of_secrets(
    session: Session, owner: Owner, desired: Mapping[Key, Object], values: Mapping[str, Any]
) -> list[Change]:
    """The generated Secrets, and those that copy one of the user's; no value is known here."""
    tie = get(values, "deletionPolicy") == "Delete"
    mounted = manifests.mounted_secrets(desired.values())
    wanted = credentials.wanted(owner.name, mounted)
    keys = {p: Key(SECRET, owner.namespace, credentials.secret_name(owner.name, p)) for p in wanted}
    live = await gather(session.cluster.get(k) for k in keys.values())
    known = {
        k.name: {**obj, "data": dict.fromkeys(obj.get("data") or {}, "")}
        for k, obj in zip(keys.values(), live, strict=True)
        if obj is not None
    }
    follows = {keys[p]: name for p, name in follows_of(values).items() if p in keys}
    found = [
        Change(key, "add", why=f"a copy of Secret {name}")
        for key, name in follows.items()
        if key.name not in known
    ]
    own = [p for p in wanted if keys[p] not in follows]
    for action in credentials.plan(
        owner.name, owner.namespace, own, known, lambda _: view.HIDDEN, owner=owner, tie=tie
    ):
        key = Key(SECRET, owner.namespace, action.name)
        if isinstance(action, credentials.Create):
            found.append(Change(key, "add", why="generated"))
            continue
        fields = [Field(f"data.{k}", None, view.HIDDEN) for k in action.patch.get("data") or {}]
        tied = "ownerReferences" in action.patch["metadata"]
        why = "goes when the MetisRAG goes" if tie else "outlives the MetisRAG"
        found.append(Change(key, "change", fields, why if tied else ""))
    return found


async def _of_growth(session: Session, expand: volumes.Expand) -> tuple[Change, Object | None]:
    """A volume that grows, and its claim then; or why it does not."""
    wanted = {"spec": {"resources": {"requests": {"storage": expand.size}}}}
    try:
        claim = await session.rest.dry_merge(expand.key, wanted)
    except ClusterError as error:
        if error.code in _NOT_ABOUT_IT - {403}:
            raise
        return Change(expand.key, "conflict", why=expand.refused(error.said).message), None
    field = Field("spec.resources.requests.storage", expand.have, expand.size)
    return Change(expand.key, "change", [field], "the volume grows, its data stays"), claim


async def _of_action(
    session: Session, action: Action, observed: Mapping[Key, Object]
) -> Change | None:
    key, before = action.key, observed.get(action.key)
    component = manifests.component_of(before or {})
    if isinstance(action, Conflict):
        return Change(key, "conflict", why=f"it belongs to {action.holder} and is left alone")
    if isinstance(action, Prune):
        return Change(key, "remove", component=component, why="the spec no longer asks for it")
    if isinstance(action, Keep):
        why = "the spec no longer asks for it; its volumes stay"
        return Change(key, "remove", component=component, why=why)
    if not isinstance(action, Apply):
        fields = [Field(d.path, d.have, d.want) for d in action.differences]
        return Change(key, "replace", fields, "made anew around its pods", component)
    try:
        after = await session.rest.dry_apply(key, action.obj, names.FIELD_MANAGER)
    except ClusterError as error:
        if error.code in _NOT_ABOUT_IT:
            raise
        return Change(key, "conflict", why=f"the API server refuses it: {error}")
    return view.of_apply(key, before, after)
