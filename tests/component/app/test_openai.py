"""The app with a model server that speaks OpenAI's API, alone or beside an Ollama."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.component.tls_door import self_signed

Serve = Callable[..., AbstractContextManager[Any]]

KEY = "sk-scripted-server"


@pytest.fixture
def key_file(tmp_path: Path, scripted_ollama: Any) -> Path:
    """The file with the key that the scripted server asks for."""
    scripted_ollama.key = KEY
    path = tmp_path / "api-key"
    path.write_text(f"{KEY}\n", encoding="utf-8")
    return path


@pytest.fixture
def client(
    serve: Serve, app_settings: Callable[..., Any], scripted_ollama: Any, key_file: Path
) -> Iterator[httpx.Client]:
    """A client of an app whose models are all on one server with OpenAI's API."""
    settings = app_settings(
        llm_provider_type="openai",
        openai_base_url=f"{scripted_ollama.url}/v1",
        openai_api_key_file=key_file,
    )
    with serve(settings) as running, running.client() as client:
        yield client


def ask(client: httpx.Client, message: str = "Who may take leave?") -> httpx.Response:
    return client.post("/api/chat/query", json={"message": message})


def test_documents_are_embedded_and_questions_answered(
    client: httpx.Client, documents: Callable[..., Any], scripted_ollama: Any
) -> None:
    uploaded = client.post("/api/documents", files=documents("leave-policy.md"))
    assert [d["status"] for d in uploaded.json()["documents"]] == ["ready"], uploaded.text
    answer = ask(client, "Everyone has how many days of annual leave a year?").json()
    assert answer["answer"] == "The answer is in the document [1]."
    assert answer["sources"][0]["document_name"] == "leave-policy.md"
    assert "28 days" in answer["sources"][0]["text"], "the vectors are in the texts' order"
    sent = scripted_ollama.requests[-1]
    assert (sent["model"], sent["max_tokens"]) == ("chat-model", 768)
    assert client.get("/api/models").json() == {"default": "chat-model", "models": ["chat-model"]}


def test_the_key_is_read_again_when_it_changes(
    client: httpx.Client, scripted_ollama: Any, key_file: Path
) -> None:
    assert ask(client).status_code == 200
    scripted_ollama.key = "sk-another"
    refused = ask(client)
    assert refused.status_code == 503
    message = refused.json()["error"]["message"]
    assert "answered 401: wrong API key" in message
    assert KEY not in message
    key_file.write_text("sk-another", encoding="utf-8")
    assert ask(client).status_code == 200


def test_a_missing_model_says_what_to_do(client: httpx.Client, scripted_ollama: Any) -> None:
    scripted_ollama.models.remove("chat-model")
    error = ask(client).json()["error"]
    assert error["code"] == "model_missing"
    assert "name in the settings one that it has" in error["message"]
    missing = client.get("/api/ready").json()["missing"]
    assert missing["models"].startswith("chat-model: ")


def test_a_model_is_there_when_it_is_listed_as_latest(
    client: httpx.Client, scripted_ollama: Any
) -> None:
    """As an Ollama lists it, under /v1 as well."""
    scripted_ollama.models = ["chat-model:latest", "embed-model:latest"]
    assert client.get("/api/ready").json()["status"] == "ready"
    assert client.get("/api/models").json()["models"] == ["chat-model:latest"]


def test_an_answer_broken_off_is_an_error(client: httpx.Client, scripted_ollama: Any) -> None:
    scripted_ollama.breaks_off = True
    error = ask(client).json()["error"]
    assert error["code"] == "model_server_unavailable"
    assert "broke off the answer of chat-model" in error["message"]


def test_an_answer_of_another_kind_of_server_is_told(
    serve: Serve, app_settings: Callable[..., Any], scripted_ollama: Any
) -> None:
    settings = app_settings(llm_provider_type="openai", openai_base_url=scripted_ollama.url)
    with serve(settings) as running, running.client() as client:
        error = ask(client).json()["error"]
        assert error["code"] in {"model_server_unavailable", "model_missing"}
        health = client.get("/api/health").json()["components"]["model-server"]
        assert health["status"] == "error"


def test_answers_from_one_server_and_embeddings_from_another(
    serve: Serve, app_settings: Callable[..., Any], scripted_ollama: Any, key_file: Path
) -> None:
    settings = app_settings(
        llm_provider_type="openai",
        embedding_provider_type="ollama",
        openai_base_url=f"{scripted_ollama.url}/v1",
        openai_api_key_file=key_file,
    )
    with serve(settings) as running, running.client() as client:
        assert ask(client).status_code == 200
        assert "max_tokens" in scripted_ollama.requests[-1]
        told = client.get("/api/health").json()["components"]["model-server"]["detail"]
        assert told == "The model server: 2 models; Ollama: version 0.0.0-scripted"


def test_two_servers_are_each_shown_their_own_key_only(
    serve: Serve,
    app_settings: Callable[..., Any],
    scripted_ollama: Any,
    another_ollama: Callable[..., Any],
    key_file: Path,
    documents: Callable[..., Any],
) -> None:
    vectors = another_ollama(key="sk-vectors", models=["embed-model"])
    (key_file.parent / "vectors").write_text("sk-vectors", encoding="utf-8")
    settings = app_settings(
        llm_provider_type="openai",
        openai_base_url=f"{scripted_ollama.url}/v1",
        openai_api_key_file=key_file,
        openai_embedding_base_url=f"{vectors.url}/v1",
        openai_embedding_api_key_file=key_file.parent / "vectors",
    )
    with serve(settings) as running, running.client() as client:
        uploaded = client.post("/api/documents", files=documents("leave-policy.md"))
        assert [d["status"] for d in uploaded.json()["documents"]] == ["ready"], uploaded.text
        assert ask(client).status_code == 200
    assert vectors.embedded
    assert scripted_ollama.embedded == []


def test_an_authority_of_one_s_own_is_trusted_when_it_is_mounted(
    serve: Serve,
    app_settings: Callable[..., Any],
    another_ollama: Callable[..., Any],
    tmp_path: Path,
) -> None:
    certificate, key = self_signed(tmp_path, "models")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = another_ollama(tls=context)
    authorities = tmp_path / "ca"
    authorities.mkdir()
    settings = app_settings(ollama_base_url=server.url, tls_ca_dir=authorities)
    with serve(settings) as running, running.client() as client:
        assert "cannot be reached" in ask(client).json()["error"]["message"]
    (authorities / "models.crt").write_bytes(certificate.read_bytes())
    with serve(settings) as running, running.client() as client:
        assert ask(client).status_code == 200
