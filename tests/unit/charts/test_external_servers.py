"""Model servers and a memory server of the user's, in place of those made here."""

from __future__ import annotations

import re

import pytest
from metis_operator.core.values import brought

OPENAI = {
    "models": {
        "chat": "Qwen/Qwen3-8B",
        "embedding": "BAAI/bge-m3",
        "openai": {
            "chat": {"url": "https://vllm/v1/", "keySecret": "vllm-key", "caSecret": "models-ca"},
            "embedding": {"url": "http://embeddings:8080/v1"},
        },
    }
}
MEMORY = {"mem0": {"external": {"url": "http://shared:8050"}, "existingSecret": "shared-key"}}
OLLAMA = {"ollama": {"external": {"url": "http://ollama.models:11434"}}}
CLIENTS = ("app", "mem0")


def _pod(rendered, component):
    return rendered.one("Deployment", f"demo-{component}")["spec"]["template"]["spec"]


def _env(rendered, component):
    return {v["name"]: v["value"] for v in _pod(rendered, component)["containers"][0]["env"]}


def _volume(rendered, component, name):
    (found,) = [v for v in _pod(rendered, component)["volumes"] if v["name"] == name]
    return found


def _egress(rendered, component):
    rules = rendered.one("NetworkPolicy", f"demo-{component}")["spec"]["egress"]
    return [rule["ports"][0]["port"] for rule in rules]


def _named(rendered):
    return {m["metadata"]["name"] for m in rendered.manifests}


@pytest.mark.parametrize("values", [OLLAMA, OPENAI])
def test_no_ollama_is_made_beside_servers_for_both_models(stack, values):
    assert "demo-ollama" not in _named(stack(values))


@pytest.mark.parametrize("component", CLIENTS)
def test_both_clients_of_models_are_told_of_an_ollama_elsewhere(stack, component):
    rendered = stack(OLLAMA)
    env = _env(rendered, component)
    assert "http://ollama.models:11434" in env.values()
    assert "OPENAI_BASE_URL" not in env
    assert 11434 in _egress(rendered, component)


@pytest.mark.parametrize("component", CLIENTS)
def test_both_clients_of_models_are_told_of_other_servers(stack, component):
    rendered = stack(OPENAI)
    env = _env(rendered, component)
    assert "openai" in (env.get("METIS_LLM_PROVIDER_TYPE"), env.get("LLM_PROVIDER_TYPE"))
    assert env["OPENAI_BASE_URL"] == "https://vllm/v1"
    assert env["OPENAI_EMBEDDING_BASE_URL"] == "http://embeddings:8080/v1"
    assert env["OPENAI_API_KEY_FILE"] == "/run/secrets/chat/api-key"
    assert "OPENAI_EMBEDDING_API_KEY_FILE" not in env  # the key of one is not shown to the other
    assert not {name for name in env if "OLLAMA" in name} - {"METIS_OLLAMA_BASE_URL"}
    assert _volume(rendered, component, "chat-key")["secret"]["secretName"] == "vllm-key"
    assert _volume(rendered, component, "ca")["projected"]["sources"] == [
        {"secret": {"name": "models-ca", "items": [{"key": "ca.crt", "path": "chat.crt"}]}}
    ]
    assert {443, 8080} <= set(_egress(rendered, component))
    assert 11434 not in _egress(rendered, component)


def test_one_model_may_stay_with_the_ollama_made_here(stack):
    values = {"models": {"openai": {"chat": {"url": "http://vllm:8000/v1"}}}}
    rendered = stack(values)
    assert "demo-ollama" in _named(rendered)
    env = _env(rendered, "app")
    assert (env["METIS_LLM_PROVIDER_TYPE"], env["EMBEDDING_PROVIDER_TYPE"]) == ("openai", "ollama")
    assert {8000, 11434} <= set(_egress(rendered, "app"))
    values = {"models": {"openai": {"embedding": {"url": "http://embeddings:8080/v1"}}}}
    env = _env(stack(values), "mem0")
    assert (env["LLM_PROVIDER_TYPE"], env["EMBEDDING_PROVIDER_TYPE"]) == ("ollama", "openai")


def test_a_memory_server_elsewhere_needs_no_server_and_no_database_here(stack):
    rendered = stack(MEMORY)
    assert not {name for name in _named(rendered) if "mem0" in name}
    assert _env(rendered, "app")["MEM0_ENDPOINT"] == "http://shared:8050"
    assert _volume(rendered, "app", "mem0-key")["secret"] == {
        "secretName": "shared-key",
        "defaultMode": 0o440,
        "items": [{"key": "api-key", "path": "current"}],
    }
    assert 8050 in _egress(rendered, "app")
    (rotator,) = rendered.kinds("CronJob")
    container = rotator["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    # The key is not rotated here, but it opens the app's status to whoever rotates its login.
    assert container["args"][5:7] == ["--only", "metis-db"]
    assert container["args"][-2:] == ["--from", "mem0-key=shared-key"]


def test_where_all_is_elsewhere_nothing_is_left_but_the_app(stack):
    database = {"external": {"url": "postgresql://db/metis"}, "existingSecret": "login"}
    auth = {"auth": {"existingSecret": "keys"}}
    rendered = stack({**MEMORY, **OLLAMA, **auth, "metisPostgres": database})
    assert _named(rendered) == {"demo-app", "demo-test"}  # and its check


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"mem0": {"external": {"url": "http://shared:8050"}}},
            ["mem0.existingSecret is empty", "api-key"],
        ),
        (
            MEMORY | {"mem0Postgres": {"cloudNativePG": {"cluster": "pg"}}},
            ["nothing here uses the database", "empty one of them"],
        ),
        (OPENAI | OLLAMA, ["no Ollama is used", "empty one of them"]),
        (
            {"ollama": {"external": {"url": "http://me:secret@ollama:11434"}}},
            ["ollama.external.url holds a login or key"],
        ),
        ({"ollama": {"external": {"url": "ollama:11434"}}}, ["/ollama/external/url"]),
        ({"ollama": {"external": {"url": "http://ollama:11434?x=1"}}}, ["without parameters"]),
        (
            {"models": {"openai": {"chat": {"keySecret": "key"}}}},
            ["models.openai.chat.url is empty", "name the address"],
        ),
        (
            {"models": {"openai": {"chat": {"url": "http://vllm/v1", "caSecret": "ca"}}}},
            ["models.openai.chat.caSecret", "not https"],
        ),
    ],
)
def test_what_cannot_work_is_refused_with_the_cure(stack, refused, values, words):
    with pytest.raises(refused) as error:
        stack(values)
    for word in words:
        assert word in str(error.value)
    assert "secret@" not in str(error.value)


def test_doctor_s_rule_of_what_is_brought_is_the_chart_s(all_rendered, fixture_values):
    """It has a spec and no rendering; both must agree in every mode."""
    parts = {"metisPostgres", "mem0Postgres", "mem0", "ollama", "app"}
    stacks = [(r, {**fixture_values.get("operator", {}).get("defaults", {}),
                   **fixture_values.get("instance", {}).get("spec", {})})
              for r in all_rendered[1:]]  # fmt: skip
    if "stack" in fixture_values:
        stacks.append((all_rendered[0], fixture_values["stack"]))
    for rendered, values in stacks:
        workloads = rendered.kinds("Deployment") + rendered.kinds("StatefulSet")
        of = {w["metadata"]["labels"].get("app.kubernetes.io/component") for w in workloads}
        made = {part for part in parts if re.sub("P", "-p", part) in of}
        assert made == parts - brought(values)
