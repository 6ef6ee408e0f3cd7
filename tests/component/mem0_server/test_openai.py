"""The memory server with models on servers that speak OpenAI's API."""

import importlib
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from mem0_server.errors import SettingsError
from mem0_server.index.servers import trust
from mem0_server.settings import load_settings
from tests.component.tls_door import self_signed

RECALL = "/agents/helper/humans/ada/recall"
FACT = {"memory": [{"id": "0", "text": "Ada drinks green tea", "attributed_to": "user"}]}


@pytest.fixture(scope="module", autouse=True)
def _openai_is_imported() -> None:
    """Before any server: on a busy machine it takes longer than a search waits."""
    for module in ("mem0.embeddings.openai", "mem0.llms.openai"):
        importlib.import_module(module)


def remember(client: httpx.Client, text: str, *, infer: bool) -> None:
    client.put("/agents/helper", json={"name": "Helper", "persona": ""})
    client.put("/humans/ada", json={})
    body = {"messages": text, "user_id": "ada", "agent_id": "helper", "infer": infer}
    answer = client.post("/memories", json=body)
    assert answer.status_code == 200, answer.text


def found(client: httpx.Client, query: str) -> list[str]:
    answer = client.post("/search", json={"query": query, "user_id": "ada"})
    assert answer.status_code == 200, answer.text
    return [one["memory"] for one in answer.json()["results"]]


def test_facts_from_one_server_and_vectors_from_another_each_with_its_own_key(
    dsn: str,
    tmp_path: Path,
    another_ollama: Callable[..., Any],
    new_settings: Callable[..., Any],
    start: Callable[[Any], Any],
) -> None:
    chat = another_ollama(key="sk-chat", models=["chat-model"], answer=json.dumps(FACT))
    vectors = another_ollama(key="sk-vectors", models=["embed-model"])
    for name in ("chat", "vectors"):
        (tmp_path / name).write_text(f"sk-{name}\n")
    settings = new_settings(
        dsn,
        llm_provider_type="openai",
        openai_base_url=f"{chat.url}/v1",
        openai_api_key_file=tmp_path / "chat",
        openai_embedding_base_url=f"{vectors.url}/v1/",
        openai_embedding_api_key_file=tmp_path / "vectors",
    )
    client = start(settings).client
    remember(client, "green tea for me", infer=True)
    assert found(client, "green tea") == ["Ada drinks green tea"]
    (asked,) = chat.requests
    assert asked["model"] == "chat-model"
    assert "green tea for me" in json.dumps(asked["messages"])
    assert chat.embedded == []
    assert vectors.embedded

    vectors.key = "sk-new"
    refused = client.post("/search", json={"query": "green tea", "user_id": "ada"})
    assert refused.status_code == 503
    message = refused.json()["error"]["message"]
    assert f"{vectors.url} refuses the key (401" in message
    assert "sk-" not in message
    (tmp_path / "vectors").write_text("sk-new")  # as a changed Secret does
    assert found(client, "green tea") == ["Ada drinks green tea"]


def test_one_model_may_stay_with_ollama(
    dsn: str,
    scripted_ollama: Any,
    another_ollama: Callable[..., Any],
    new_settings: Callable[..., Any],
    start: Callable[[Any], Any],
) -> None:
    chat = another_ollama(answer=json.dumps(FACT))
    settings = new_settings(
        dsn,
        scripted_ollama.url,
        llm_provider_type="openai",
        embedding_provider_type="ollama",
        openai_base_url=f"{chat.url}/v1",
    )
    client = start(settings).client
    remember(client, "green tea for me", infer=True)
    assert found(client, "green tea") == ["Ada drinks green tea"]
    assert (len(chat.requests), chat.embedded, scripted_ollama.requests) == (1, [], [])


def test_what_is_wrong_there_is_told_and_made_up_for(
    dsn: str,
    scripted_ollama: Any,
    new_settings: Callable[..., Any],
    start: Callable[[Any], Any],
    wait: Callable[..., Any],
) -> None:
    scripted_ollama.models.remove("embed-model")
    url = f"{scripted_ollama.url}/v1"
    settings = new_settings(dsn, llm_provider_type="openai", openai_base_url=url)
    client = start(settings).client
    remember(client, "green tea", infer=False)
    missing = client.post("/search", json={"query": "tea", "user_id": "ada"}).json()["error"]
    assert missing["code"] == "model_missing"
    assert "name one that it has" in missing["message"]
    scripted_ollama.models.append("embed-model")
    wait(lambda: found(client, "tea") == ["green tea"], "the memory", 30)
    scripted_ollama.down = True
    failed = client.post("/search", json={"query": "tea", "user_id": "ada"})
    assert failed.status_code == 503
    assert scripted_ollama.url in failed.json()["error"]["message"]


@pytest.mark.parametrize("provider", ["openai", "ollama"])
def test_an_authority_of_one_s_own_is_trusted_when_it_is_mounted(
    dsn: str,
    tmp_path: Path,
    another_ollama: Callable[..., Any],
    new_settings: Callable[..., Any],
    start: Callable[[Any], Any],
    provider: str,
) -> None:
    certificate, key = self_signed(tmp_path, "models")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = another_ollama(tls=context)
    urls = {"openai_base_url": f"{server.url}/v1"} if provider == "openai" else {}
    authorities = tmp_path / "ca"
    authorities.mkdir()

    def settings() -> Any:
        kind = {"llm_provider_type": provider, "tls_ca_dir": authorities}
        return new_settings(dsn, server.url, **kind, **urls)

    doubting = start(settings()).client
    refused = doubting.post("/search", json={"query": "tea", "user_id": "ada"})
    assert refused.status_code == 503, refused.text
    (authorities / "models.crt").write_bytes(certificate.read_bytes())
    client = start(settings()).client
    remember(client, "green tea", infer=False)
    assert found(client, "tea") == ["green tea"]


def test_settings_that_cannot_work_are_told_of(dsn: str, tmp_path: Path) -> None:
    given: dict[str, Any] = {"database_url": dsn, "mem0_admin_api_key": "mk_0123456789abcdef"}
    with pytest.raises(SettingsError, match="OPENAI_BASE_URL must be set"):
        load_settings(**given, embedding_provider_type="openai")
    with pytest.raises(SettingsError, match="OPENAI_BASE_URL: must start with http"):
        load_settings(**given, llm_provider_type="openai", openai_base_url="vllm:8000")
    (tmp_path / "bad.crt").write_text("no certificate")
    with pytest.raises(SettingsError, match=r"bad\.crt holds no certificate"):
        trust(load_settings(**given, tls_ca_dir=tmp_path))
