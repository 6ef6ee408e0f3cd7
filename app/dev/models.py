"""Which Ollama a local run uses: a given one, one that runs already, or a small one of its own."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.dev.children import Child
from app.errors import LocalRunError
from app.rag.ollama import full_name

DEFAULT_URL = "http://localhost:11434"
SMALL_MODELS = ("smollm2:135m", "all-minilm")
"""The chat and the embedding model of an Ollama of our own."""
BUILD_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Models:
    """An Ollama and the models to use there; ``child`` where the Ollama is ours to end."""

    url: str
    chat: str
    embedding: str
    child: Child | None = None


def installed(url: str) -> list[str] | None:
    """The models of an Ollama, None when none answers there."""
    try:
        answer = httpx.get(f"{url}/api/tags", timeout=3, trust_env=False)
        answer.raise_for_status()
        return sorted(str(model["name"]) for model in answer.json()["models"])
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return None


def there(url: str, chat: str, embedding: str) -> Models | None:
    """The Ollama at ``url`` with these models; None when none answers there.

    Raises LocalRunError when it lacks one of them.
    """
    found = installed(url)
    if found is None:
        return None
    for option, model in (("--chat-model", chat), ("--embedding-model", embedding)):
        if full_name(model) not in found:
            others = ", ".join(found) or "no model at all"
            raise LocalRunError(
                f"the Ollama at {url} does not have {model}; it has {others}. Fetch it with "
                f"`ollama pull {model}`, name another with {option}, or let --small-models start "
                "an Ollama of its own"
            )
    return Models(url, chat, embedding)


def small(port: int, log: Path) -> Models:
    """Start an Ollama of our own with two small models; built first where that is needed.

    Raises LocalRunError when it cannot be had.
    """
    if importlib.util.find_spec("hack") is None:
        raise LocalRunError(
            f"no Ollama answers at {DEFAULT_URL}, and only a checkout of the project can make one; "
            "start Ollama, or name one with --ollama-url"
        )
    url = f"http://127.0.0.1:{port}"
    arguments = [sys.executable, "-m", "hack", "ollama", f"--port={port}"]
    child = Child("Ollama", arguments, log)
    try:
        child.wait_until(lambda: installed(url) is not None, BUILD_SECONDS, "its start")
    except BaseException:
        child.stop()
        raise
    return Models(url, *SMALL_MODELS, child)
