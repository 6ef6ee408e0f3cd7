"""Plain Kubernetes objects: their kinds, their keys and the few fields everyone reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from . import names

# An object as the API server speaks it: JSON decoded into dicts and lists.
Object = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A kind of object that a stack is made of.

    ``order`` is the wave in which it is applied: what pods mount or run as comes before the
    workloads that need it. A cluster may lack the API of an ``optional`` kind.
    """

    group: str
    version: str
    kind: str
    plural: str
    order: int = 0
    namespaced: bool = True
    optional: bool = False

    @property
    def api_version(self) -> str:
        """``group/version``, or only the version for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None) -> str:
        """Where the API server lists the objects of this kind, in one namespace or in all."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return (
            f"{root}/namespaces/{namespace}/{self.plural}"
            if namespace
            else (f"{root}/{self.plural}")
        )

    @property
    def is_workload(self) -> bool:
        """Whether it runs pods that the status speaks of."""
        return self in WORKLOADS


SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps")
SERVICE = Kind("", "v1", "Service", "services")
SECRET = Kind("", "v1", "Secret", "secrets")
PVC = Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
POD = Kind("", "v1", "Pod", "pods")
NETWORK_POLICY = Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies")
INGRESS = Kind("networking.k8s.io", "v1", "Ingress", "ingresses")
HTTP_ROUTE = Kind("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes", optional=True)
CERTIFICATE = Kind("cert-manager.io", "v1", "Certificate", "certificates", optional=True)
AUTOSCALER = Kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
DISRUPTION_BUDGET = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets")
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments", order=1)
STATEFUL_SET = Kind("apps", "v1", "StatefulSet", "statefulsets", order=1)

EVENT = Kind("", "v1", "Event", "events")
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")
CRON_JOB = Kind("batch", "v1", "CronJob", "cronjobs")
JOB = Kind("batch", "v1", "Job", "jobs", order=2)

METISRAG = Kind(names.GROUP, names.VERSION, names.KIND, names.PLURAL)
CRD = Kind(
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    namespaced=False,
)

# What runs pods that the status speaks of.
WORKLOADS = (DEPLOYMENT, STATEFUL_SET)
# What the chart may render, and the operator's role allows it to apply and prune.
RENDERED = (
    SERVICE_ACCOUNT,
    CONFIG_MAP,
    SERVICE,
    NETWORK_POLICY,
    INGRESS,
    HTTP_ROUTE,
    CERTIFICATE,
    AUTOSCALER,
    DISRUPTION_BUDGET,
    DEPLOYMENT,
    STATEFUL_SET,
    JOB,
)
# What is only looked at, to tell how the stack is.
OBSERVED = (POD, PVC)

_BY_NAME = {(k.api_version, k.kind): k for k in (*RENDERED, *OBSERVED, SECRET, METISRAG, CRD)}


def kind_of(obj: Mapping[str, Any]) -> Kind | None:
    """The known kind of ``obj`` by its apiVersion and kind, or None."""
    return _BY_NAME.get((str(obj.get("apiVersion")), str(obj.get("kind"))))


def kind_by_name(group: str, kind: str) -> Kind | None:
    """The known kind of that group and name, whatever its version, or None."""
    return next((k for k in _BY_NAME.values() if (k.group, k.kind) == (group, kind)), None)


class Key(NamedTuple):
    """What identifies an object within a cluster, whatever its version."""

    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.kind}/{self.name}"


def key_of(obj: Mapping[str, Any], kind: Kind) -> Key:
    """The key of ``obj``, which is of that ``kind``."""
    meta = obj["metadata"]
    return Key(kind, meta.get("namespace", "") if kind.namespaced else "", meta["name"])


def of_kind(objects: Mapping[Key, Object], *kinds: Kind) -> dict[Key, Object]:
    """Those of ``objects`` that are of one of ``kinds``; the others are not looked at."""
    return {key: objects[key] for key in objects if key.kind in kinds}


def meta_of(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """The metadata of ``obj``; empty when it has none."""
    return obj.get("metadata") or {}


def labels_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """The labels of ``obj``; empty when it has none."""
    return meta_of(obj).get("labels") or {}


def annotations_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """The annotations of ``obj``; empty when it has none."""
    return meta_of(obj).get("annotations") or {}


def uid_of(obj: Mapping[str, Any]) -> str:
    """The uid of ``obj``, empty for one that was never stored."""
    return str(meta_of(obj).get("uid", ""))


def is_going(obj: Mapping[str, Any]) -> bool:
    """Whether ``obj`` has been deleted and only waits to disappear."""
    return bool(meta_of(obj).get("deletionTimestamp"))


def pod_spec_of(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    """The pod template's spec of a workload; empty for anything else."""
    template = (obj.get("spec") or {}).get("template") or {}
    return template.get("spec") or {}


def containers_of(pod_spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Init containers, then containers."""
    yield from pod_spec.get("initContainers") or ()
    yield from pod_spec.get("containers") or ()


@dataclass(frozen=True)
class Owner:
    """The MetisRAG that the children belong to."""

    name: str
    namespace: str
    uid: str

    @property
    def reference(self) -> dict[str, Any]:
        """The ownerReference that its children carry.

        ``blockOwnerDeletion`` is left out: nothing may hold up the deletion of a MetisRAG.
        """
        return {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
        }

    @classmethod
    def of(cls, resource: Mapping[str, Any]) -> Owner:
        """The owner that the MetisRAG ``resource`` is."""
        meta = resource["metadata"]
        return cls(name=meta["name"], namespace=meta["namespace"], uid=meta["uid"])

    def claims(self, obj: Mapping[str, Any]) -> bool:
        """Whether ``obj`` belongs to this owner, or may be taken over by it.

        Taken over are children of a former MetisRAG of the same name, and those that lost
        their owner but still say by their labels which instance they were made for.
        """
        references = meta_of(obj).get("ownerReferences") or []
        controllers = [r for r in references if r.get("controller")]
        if controllers:
            return all(
                (r.get("apiVersion", "").split("/")[0], r.get("kind"), r.get("name"))
                == (names.GROUP, names.KIND, self.name)
                for r in controllers
            )
        labels = labels_of(obj)
        return (
            labels.get(names.LABEL_MANAGED_BY) == names.FIELD_MANAGER
            and labels.get(names.LABEL_INSTANCE) == self.name
        )
