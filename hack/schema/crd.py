"""The custom resource definition of MetisRAG: its frame and its rules.

The spec comes from charts/stack/values.yaml, the status from hack.schema.status.
"""

from __future__ import annotations

from typing import Any

from hack.schema.dialects import CrdDialect, Rule, Schema
from hack.schema.status import record, status
from hack.schema.values import Value

GROUP = "metisrag.dev"
NAME = f"metisrags.{GROUP}"

# A rule sees one resource, before the operator's defaults come under it: so each speaks only of
# what is written there. The chart checks the same on the merged values.
_NODE_PORT: Rule = (
    "!(has(self.nodePort) && has(self.type) && self.type == 'ClusterIP')",
    "nodePort needs type NodePort or LoadBalancer: set the type or leave nodePort out",
)
_AUTOSCALED: Rule = (
    "!(has(self.autoscaling) && has(self.autoscaling.enabled) && self.autoscaling.enabled"
    " && has(self.replicas))",
    "with autoscaling.enabled the number of pods is the autoscaler's: leave replicas out",
)
_AUTOSCALER: Rule = (
    "!(has(self.minReplicas) && has(self.maxReplicas) && self.minReplicas > self.maxReplicas)",
    "minReplicas is more than maxReplicas: raise maxReplicas",
)
_GPU_NAME = (
    "(has(self.gpu) && has(self.gpu.resourceName) ? self.gpu.resourceName : 'nvidia.com/gpu')"
)
# What a volume is, it stays. These hold where both specs name the field; what the API server cannot
# see (a size that was a default before) the operator holds against the volume itself.
_STORAGE: list[Rule] = [
    (
        "!has(self.className) || !has(oldSelf.className) || self.className == oldSelf.className",
        "the storage class of a volume cannot change: keep the class. For another one make a new"
        " MetisRAG and move the data; or, losing the data, delete this one and its volume claim",
    ),
    (
        "!has(self.size) || !has(oldSelf.size) || quantity(string(self.size))"
        ".compareTo(quantity(string(oldSelf.size))) >= 0",
        "a volume cannot shrink: keep the size or name a larger one. For a smaller one make a new"
        " MetisRAG and move the data",
    ),
]
# What was a default before, the API server cannot see: the pods refuse that themselves.
_EMBEDDING: Rule = (
    "!has(self.embedding) || !has(oldSelf.embedding) || self.embedding == oldSelf.embedding"
    " || (has(self.reindex) && self.reindex)",
    "another embedding model means that all documents are embedded anew: to have that done, set"
    " reindex: true beside it; chat goes on meanwhile. Else keep the embedding model",
)
# A database is made here, or is one of the user's: by address or as a cluster of CloudNativePG's.
_DATABASE: list[Rule] = [
    (
        "!(has(self.external) && has(self.external.url) && self.external.url != ''"
        " && has(self.cloudNativePG) && has(self.cloudNativePG.cluster)"
        " && self.cloudNativePG.cluster != '')",
        "external.url and cloudNativePG.cluster are both set: empty one of them",
    ),
]
_DATABASE_ADDRESS: list[Rule] = [
    (
        "!has(self.url) || !self.url.contains('@')",
        "the address may hold no login: write postgresql://HOST:5432/DATABASE, and put username and"
        " password into a Secret that existingSecret names",
    ),
    (
        "!has(self.url) || self.url == ''"
        " || self.url.matches('^[a-z]+://[^/?#]+/[^/?#]+$') || self.url.contains('@')",
        "write the address as postgresql://HOST:5432/DATABASE, without parameters",
    ),
    (
        "!(has(self.tls) && has(self.tls.caSecret) && self.tls.caSecret != ''"
        " && has(self.tls.mode) && self.tls.mode in ['disable', 'prefer', 'require'])",
        "this tls.mode checks no certificate: set it to verify-full, or leave tls.caSecret out",
    ),
]
# A server of the user's: of models, or of the memory.
_SERVER: list[Rule] = [
    (
        "!has(self.url) || !self.url.contains('@')",
        "the address may hold no login or key: put the key into a Secret",
    ),
    (
        "!(has(self.caSecret) && self.caSecret != '' && has(self.url)"
        " && self.url.startsWith('http://'))",
        "caSecret is of use only with an address that begins with https://",
    ),
]
RULES: dict[str, list[Rule]] = {
    "models": [_EMBEDDING],
    "auth": [
        (
            "!(has(self.mode) && self.mode == 'none'"
            " && has(self.existingSecret) && self.existingSecret != '')",
            "existingSecret is of use only with mode keys: set mode to keys or leave it out",
        )
    ],
    "app": [_AUTOSCALED],
    "mem0": [_AUTOSCALED],
    "app.autoscaling": [_AUTOSCALER],
    "mem0.autoscaling": [_AUTOSCALER],
    "app.ingress": [
        (
            "!(has(self.enabled) && self.enabled && !(has(self.host) && self.host != ''))",
            "an Ingress needs a host: name the one that it answers for",
        )
    ],
    "app.httpRoute": [
        (
            "!(has(self.enabled) && self.enabled"
            " && !(has(self.parentRefs) && size(self.parentRefs) > 0))",
            "a route needs a Gateway: name it in parentRefs, as [{name: GATEWAY}]",
        )
    ],
    "ollama": [
        (
            f"!(has(self.resources) && has(self.resources.{kind})"
            f" && {_GPU_NAME} in self.resources.{kind})",
            f"ask for GPUs with gpu.enabled and gpu.count, not in resources.{kind}",
        )
        for kind in ("requests", "limits")
    ],
    **{
        f"{part}.service": [_NODE_PORT]
        for part in ("app", "mem0", "ollama", "metisPostgres", "mem0Postgres")
    },
    **dict.fromkeys(
        ("ollama.external", "mem0.external", "models.openai.chat", "models.openai.embedding"),
        _SERVER,
    ),
    **dict.fromkeys(("metisPostgres", "mem0Postgres"), _DATABASE),
    **{f"{part}.external": _DATABASE_ADDRESS for part in ("metisPostgres", "mem0Postgres")},
    **{f"{part}.storage": _STORAGE for part in ("ollama", "metisPostgres", "mem0Postgres")},
}
# A StatefulSet's pods carry its name and an 11-character revision in a label of at most 63: with
# "-metis-postgres", 37 are left.
_NAME_RULES: list[Rule] = [
    (
        "size(self.metadata.name) <= 37",
        "the name may have at most 37 characters: the names of the instance's parts are made of it",
    ),
    (
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "the name must begin with a letter and use only a-z, 0-9 and '-', as Services' names do",
    ),
]


def _columns() -> list[Schema]:
    def column(name: str, path: str, kind: str = "string", **more: Any) -> Schema:
        return {"name": name, "type": kind, "jsonPath": path} | more

    return [
        column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        column("Phase", ".status.phase"),
        column("Model", ".status.model"),
        column("URL", ".status.url"),
        column("Message", '.status.conditions[?(@.type=="Ready")].message', priority=1),
        column("Age", ".metadata.creationTimestamp", "date"),
    ]


def definition(stack: Value, version: str) -> Schema:
    """The whole CustomResourceDefinition, its spec made from the values of charts/stack."""
    values = [value for value in stack.children if not value.chart_only]
    spec = CrdDialect(RULES).group(
        "", "The instance that is wanted; what is left out has the default named there.", values
    )
    validations = [{"rule": rule, "message": message} for rule, message in _NAME_RULES]
    schema = record(
        {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": status(),
        }
    ) | {
        "description": "One Metis RAG: the app, its memory, its models and their databases.",
        "x-kubernetes-validations": validations,
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": NAME,
            "labels": {"app.kubernetes.io/part-of": "metis-rag"},
            "annotations": {f"{GROUP}/crd-version": version},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": "MetisRAG",
                "listKind": "MetisRAGList",
                "plural": "metisrags",
                "singular": "metisrag",
                "shortNames": ["mrag"],
            },
            "versions": [
                {
                    "name": "v1alpha1",
                    "served": True,
                    "storage": True,
                    "additionalPrinterColumns": _columns(),
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.app.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }
