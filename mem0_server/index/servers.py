"""Which model servers there are, and how mem0ai is told of them: Ollama, or OpenAI's API.

vLLM, llama.cpp, LiteLLM and Ollama itself under ``/v1`` speak OpenAI's API. The libraries are
imported when they are needed: each takes its time and memory.
"""

from __future__ import annotations

import ssl
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from mem0_server.errors import (
    InvalidInputError,
    Mem0ServerError,
    ModelFailedError,
    ModelMissingError,
    OllamaError,
    OllamaUnreachableError,
    SettingsError,
)
from mem0_server.settings import Settings

# openai's client wants a key; a server that asks for none does not mind one.
_NO_KEY = "none"


@dataclass(frozen=True, slots=True)
class ModelServer:
    """One server of models."""

    provider: str
    address: str
    key_file: Path | None = None

    def __str__(self) -> str:
        kind = "Ollama" if self.provider == "ollama" else "the model server"
        return f"{kind} at {self.address}"

    def config(self, model: str) -> dict[str, Any]:
        """What mem0ai is told: its provider and the arguments of that."""
        if self.provider == "ollama":
            return {
                "provider": "ollama",
                "config": {"ollama_base_url": self.address, "model": model},
            }
        # Without embedding_dims: not every server takes that parameter.
        told = {"openai_base_url": self.address, "api_key": _NO_KEY, "model": model}
        return {"provider": "openai", "config": told}

    def client(self, settings: Settings, timeout: float) -> Any:
        """The library's client, which gives up after ``timeout`` seconds.

        :raises SettingsError: an authority's file cannot be used.
        """
        trusted = trust(settings)
        if self.provider == "ollama":
            import ollama

            return ollama.Client(host=self.address, timeout=timeout, verify=trusted)
        import openai

        # A proxy meant for the outside must not see what people say.
        http = openai.DefaultHttpxClient(
            auth=partial(_shown, self.key_file), verify=trusted, timeout=timeout, trust_env=False
        )
        return openai.OpenAI(
            base_url=self.address, api_key=_NO_KEY, http_client=http, timeout=timeout, max_retries=0
        )

    def embed(self, settings: Settings, model: str, text: str) -> list[float]:
        """One vector, asked of the server without mem0ai; empty when it makes none."""
        client = self.client(settings, settings.embedding_timeout)
        if self.provider == "ollama":
            found = client.embed(model=model, input=text).embeddings
            return list(found[0]) if found else []
        data = client.embeddings.create(model=model, input=[text], encoding_format="float").data
        return list(data[0].embedding) if data else []


def chat_server(settings: Settings) -> ModelServer:
    """The server of the model that finds facts."""
    if settings.llm_provider_type == "ollama":
        return ModelServer("ollama", settings.ollama_base_url)
    return ModelServer("openai", settings.openai_base_url, settings.openai_api_key_file)


def embedding_server(settings: Settings) -> ModelServer:
    """The server of the embedding model."""
    if (settings.embedding_provider_type or settings.llm_provider_type) == "ollama":
        return ModelServer("ollama", settings.ollama_base_url)
    own = settings.openai_embedding_base_url
    if own:  # with a key of its own: never that of the other
        return ModelServer("openai", own, settings.openai_embedding_api_key_file)
    return ModelServer("openai", settings.openai_base_url, settings.openai_api_key_file)


def trust(settings: Settings) -> ssl.SSLContext:
    """The system's authorities, and those in the ``*.crt`` files of TLS_CA_DIR (PEM).

    :raises SettingsError: a file holds no certificate.
    """
    context = ssl.create_default_context()
    if settings.tls_ca_dir is not None:
        for file in sorted(settings.tls_ca_dir.glob("*.crt")):
            try:
                context.load_verify_locations(cafile=str(file))
            except (OSError, ssl.SSLError) as error:
                raise SettingsError(
                    f"{file} holds no certificate that can be read ({error.strerror or error}); "
                    "put the authority's certificate there, in PEM"
                ) from None
    return context


def translated(settings: Settings, error: Exception) -> Mem0ServerError | None:
    """What an error of a model server means here; None when it is none of theirs."""
    import ollama

    if isinstance(error, ollama.ResponseError):
        where = str(ModelServer("ollama", settings.ollama_base_url))
        return _refused(where, error.status_code, error.error, "pull it there")
    openai = sys.modules.get("openai")
    if openai is not None and isinstance(error, openai.APIStatusError):
        cure = "start it there, or name one that it has"
        return _refused(_at(error.request), error.status_code, error.message, cure)
    if openai is not None and isinstance(error, openai.APIConnectionError):
        cause = str(error.__cause__ or error)
        return OllamaUnreachableError(f"{_at(error.request)} does not answer: {cause}")
    if isinstance(error, (ConnectionError, httpx.HTTPError)):
        cause = str(error) or type(error).__name__
        where = str(ModelServer("ollama", settings.ollama_base_url))
        return OllamaUnreachableError(f"{where} does not answer: {cause}")
    if openai is not None and isinstance(error, openai.OpenAIError):
        return OllamaError(f"the model server failed: {error}")
    return None


def _refused(where: str, status: int, said: str, cure: str) -> Mem0ServerError:
    if status == 404:
        return ModelMissingError(f"{where}: {said}; {cure}")
    if status in (401, 403):
        return OllamaError(f"{where} refuses the key ({status} {said}); mount the right one")
    if status == 429:
        return OllamaError(f"{where} has too much to do: {said}")
    if status < 500:
        return InvalidInputError(f"{where} refuses the text: {said}")
    kind = ModelFailedError if status == 500 else OllamaError
    return kind(f"{where} failed: {status} {said}")


def _at(request: Any) -> str:
    url = request.url
    return f"the model server at {url.scheme}://{url.netloc.decode()}"


def _shown(file: Path | None, request: Any) -> Any:
    """The request with the bearer key of the moment: the file is read again for every request."""
    if file is None:
        request.headers.pop("Authorization", None)
        return request
    try:
        key = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise OllamaError(
            f"the model server's key cannot be read from {file} ({error.strerror}); mount it there"
        ) from error
    request.headers["Authorization"] = f"Bearer {key}"
    return request
