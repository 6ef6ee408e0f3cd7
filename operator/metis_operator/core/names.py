"""Every name, label and annotation that the controller shares with the chart, in one place."""

from __future__ import annotations

GROUP = "metisrag.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "MetisRAG"
PLURAL = "metisrags"

FIELD_MANAGER = "metis-operator"
PRODUCT = "metis-rag"

LABEL_NAME = "app.kubernetes.io/name"
LABEL_INSTANCE = "app.kubernetes.io/instance"
LABEL_COMPONENT = "app.kubernetes.io/component"
LABEL_PART_OF = "app.kubernetes.io/part-of"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_JOB = "batch.kubernetes.io/job-name"
LABEL_CREDENTIALS = f"{GROUP}/credentials"
# On the lookout for GPUs: which ones it looks for.
LABEL_WISH = f"{GROUP}/gpu-wish"

ANNOTATION_DIGEST = f"{GROUP}/digest"
ANNOTATION_PAUSED = f"{GROUP}/paused"
# On a Job: the model that it pulls.
ANNOTATION_MODEL = f"{GROUP}/model"
ANNOTATION_CRD_VERSION = f"{GROUP}/crd-version"
# On a MetisRAG: ROTATE_PREFIX/COMPONENT asks for a rotation, once for each value that it takes;
# a value that ends in REVOKE_NOW is in a hurry.
ROTATE_PREFIX = f"rotate.{GROUP}"
REVOKE_NOW = "revoke-now"
# On what the chart renders for an installation without an operator.
ANNOTATION_HELM_ONLY = f"{GROUP}/helm-only"
# On the StatefulSet of a database: the port on which its Service listens.
ANNOTATION_SERVICE_PORT = f"{GROUP}/service-port"
ANNOTATION_HOOK = "helm.sh/hook"

PRODUCT_SELECTOR = f"{LABEL_NAME}={PRODUCT}"

APP = "app"
MEM0 = "mem0"
OLLAMA = "ollama"
METIS_POSTGRES = "metis-postgres"
MEM0_POSTGRES = "mem0-postgres"

# What a component waits for when it starts.
DEPENDENCIES: dict[str, tuple[str, ...]] = {
    APP: (METIS_POSTGRES, OLLAMA, MEM0),
    MEM0: (MEM0_POSTGRES,),
}
# What others do without once they run.
OPTIONAL = frozenset({MEM0})


def selector_labels(instance: str, component: str) -> dict[str, str]:
    """The labels by which a Service or workload of ``component`` selects its pods."""
    return {
        LABEL_NAME: PRODUCT,
        LABEL_INSTANCE: instance,
        LABEL_COMPONENT: component,
    }


def selector_string(instance: str, component: str) -> str:
    """``selector_labels`` in the form that the scale subresource reports."""
    return ",".join(f"{k}={v}" for k, v in selector_labels(instance, component).items())
