"""Names of models, as Ollama reads them: [HOST/][NAMESPACE/]MODEL[:TAG]. Pure."""

from __future__ import annotations

HOST, NAMESPACE, TAG = "registry.ollama.ai", "library", "latest"


def full(name: str) -> tuple[str, str, str, str]:
    """Host, namespace, model and tag, with Ollama's own defaults."""
    # A host may have a port: only a colon in the last part begins a tag.
    head, slash, last = name.rpartition("/")
    model, _, tag = last.partition(":")
    path = f"{head}{slash}{model}"
    parts = path.split("/")
    model = parts[-1]
    namespace = parts[-2] if len(parts) > 1 else NAMESPACE
    host = "/".join(parts[:-2]) if len(parts) > 2 else HOST
    return host, namespace, model, tag or TAG


def is_same(one: str, other: str) -> bool:
    """Whether two names mean the same model; Ollama does not tell case apart."""
    return [p.lower() for p in full(one)] == [p.lower() for p in full(other)]


def from_mirror(name: str, registry: str) -> str:
    """Where ``name`` is pulled from: ``registry`` in place of Ollama's own, if one is given.

    A name that names its registry keeps it.
    """
    host, namespace, model, tag = full(name)
    return f"{registry}/{namespace}/{model}:{tag}" if registry and host == HOST else name
