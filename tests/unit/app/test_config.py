"""Settings: defaults, precedence, refusals."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from app import __version__
from app.core.config import ALIASES, Settings, load_settings, refuse_to_start
from app.db.login import credentials
from app.db.session import driver_url
from app.errors import ConfigurationError, DatabaseUnavailableError

ROOT = Path(__file__).parents[3]
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of ours and no .env but what a test sets."""
    for name in [*Settings.model_fields, *ALIASES.values(), "METIS_CONFIG_FILE"]:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


def test_documented_defaults() -> None:
    settings = load_settings()
    expected: dict[str, Any] = {
        "api_v1_str": "/api",
        "project_name": "Metis RAG",
        "ollama_base_url": "http://localhost:11434",
        "default_model": "gemma3:12b",
        "default_embedding_model": "nomic-embed-text",
        "chunking_judge_model": "gemma3:12b",
        "retrieval_judge_model": "gemma3:12b",
        "langgraph_rag_model": "gemma3:12b",
        "use_chunking_judge": True,
        "use_retrieval_judge": True,
        "use_langgraph_rag": True,
        "use_enhanced_langgraph_rag": True,
        "upload_dir": Path("./data/uploads"),
        "chroma_db_dir": Path("./data/chroma_db"),
        "chunk_size": 1500,
        "chunk_overlap": 150,
        "database_type": "postgresql",
        "database_user": "postgres",
        "database_password": None,
        "database_host": "localhost",
        "database_port": 5432,
        "database_name": "metis_rag",
        "database_url": "postgresql://postgres@localhost:5432/metis_rag",
        "database_pool_size": 5,
        "database_max_overflow": 10,
        "sql_echo": False,
        "cors_origins": [],
        "mem0_endpoint": "http://localhost:8050",
        "mem0_api_key": None,
        "use_mem0": True,
        "auth_mode": "keys",
    }
    assert {name: getattr(settings, name) for name in expected} == expected


def test_the_example_names_every_setting_and_its_default() -> None:
    lines = re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=(.*)$", EXAMPLE, re.MULTILINE)
    assert {name.lower() for name, _ in lines} == set(Settings.model_fields)
    shown = {
        name.lower(): value
        for name, value in re.findall(r"^# ([A-Z][A-Z0-9_]+)=(.+)$", EXAMPLE, re.MULTILINE)
        if name != "DATABASE_URL"  # built from the parts
    }
    defaults, read = load_settings(), load_settings(**shown)
    assert {n: getattr(read, n) for n in shown} == {n: getattr(defaults, n) for n in shown}


def test_the_example_works_as_it_is(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(EXAMPLE, encoding="utf-8")
    settings = load_settings()
    assert (settings.auth_mode, settings.host, settings.use_mem0) == ("none", "127.0.0.1", False)
    refuse_to_start(settings)


def test_layers_from_strong_to_weak(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    names = ("default_model", "default_embedding_model", "project_name", "chunk_size")
    file.write_text(json.dumps({name: 500 if name == "chunk_size" else "file" for name in names}))
    monkeypatch.setenv("METIS_CONFIG_FILE", str(file))
    assert load_settings().default_model == "file"
    dotenv = "\n".join(f"{name.upper()}=dotenv" for name in names[:3])
    (tmp_path / ".env").write_text(dotenv)
    monkeypatch.setenv("DEFAULT_EMBEDDING_MODEL", "environment")
    monkeypatch.setenv("DEFAULT_MODEL", "environment")
    settings = load_settings(default_model="argument")
    assert [getattr(settings, name) for name in names] == ["argument", "environment", "dotenv", 500]


@pytest.mark.parametrize(
    ("alias", "plain", "field", "one", "other"),
    [
        ("METIS_POSTGRES_DSN", "DATABASE_URL", "database_url", "postgresql://a/b", "postgresql://c/d"),
        ("METIS_OLLAMA_BASE_URL", "OLLAMA_BASE_URL", "ollama_base_url", "http://a:1", "http://b:2"),
        ("METIS_DB_TYPE", "DATABASE_TYPE", "database_type", "postgresql", "sqlite"),
        ("METIS_LLM_PROVIDER_TYPE", "LLM_PROVIDER_TYPE", "llm_provider_type", "ollama", "openai"),
    ],
)  # fmt: skip
def test_metis_names_win_within_a_layer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    alias: str, plain: str, field: str, one: str, other: str,
) -> None:  # fmt: skip
    monkeypatch.setenv(alias, one)
    monkeypatch.setenv(plain, other)
    assert getattr(load_settings(), field) == one
    monkeypatch.delenv(plain)
    # A stronger layer wins over a weaker one, whichever of the names each uses.
    file = tmp_path / "config.json"
    file.write_text(json.dumps({alias: other}))
    monkeypatch.setenv("METIS_CONFIG_FILE", str(file))
    monkeypatch.delenv(alias)
    monkeypatch.setenv(plain, one)
    assert getattr(load_settings(), field) == one


def test_empty_variables_count_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEFAULT_MODEL", "")
    monkeypatch.setenv("METIS_POSTGRES_DSN", "")
    monkeypatch.setenv("DATABASE_URL", "postgresql://here/db")
    settings = load_settings()
    assert settings.default_model == "gemma3:12b"
    assert settings.database_url == "postgresql://here/db"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example", ["https://a.example"]),
        ("https://a.example, https://b.example", ["https://a.example", "https://b.example"]),
        ('["https://a.example"]', ["https://a.example"]),
    ],
)
def test_cors_origins(monkeypatch: pytest.MonkeyPatch, text: str, expected: list[str]) -> None:
    monkeypatch.setenv("CORS_ORIGINS", text)
    assert load_settings().cors_origins == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "eighty"),
        ("PORT", "70000"),
        ("CHUNK_SIZE", "10"),
        ("CHUNK_OVERLAP", "1500"),
        ("CHAT_ANSWER_TOKENS", "4000"),
        ("DATABASE_TYPE", "sqlite"),
        ("DATABASE_URL", "mysql://host/db"),
        ("DATABASE_URL", "host=db password=x"),
        ("DATABASE_POOL_SIZE", "0"),
        ("OLLAMA_BASE_URL", "localhost:11434"),
        ("MEM0_ENDPOINT", "ftp://host"),
        ("LLM_PROVIDER_TYPE", "bedrock"),
        ("OPENAI_BASE_URL", "vllm:8000/v1"),
        ("AUTH_MODE", "off"),
        ("API_V1_STR", "api/"),
        ("USE_MEM0", "maybe"),
        ("CORS_ORIGINS", "[1"),
    ],
)
def test_wrong_values_are_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as error:
        load_settings()
    assert name in error.value.message


@pytest.mark.parametrize("which", ["LLM_PROVIDER_TYPE", "EMBEDDING_PROVIDER_TYPE"])
def test_openai_needs_an_address(monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    monkeypatch.setenv(which, "openai")
    with pytest.raises(ConfigurationError) as error:
        load_settings()
    assert "OPENAI_BASE_URL must be set" in error.value.message
    monkeypatch.setenv("METIS_OPENAI_BASE_URL", "http://vllm:8000/v1/")
    assert load_settings().openai_base_url == "http://vllm:8000/v1"


def test_messages_do_not_tell_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "mysql://user:s3cr3t-value@host/db")
    with pytest.raises(ConfigurationError) as error:
        load_settings()
    assert "s3cr3t" not in error.value.message
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:s3cr3t-value@host/db")
    monkeypatch.setenv("MEM0_API_KEY", "s3cr3t-key")
    monkeypatch.setenv("DATABASE_PASSWORD", "s3cr3t-pass")
    assert "s3cr3t" not in repr(load_settings())


@pytest.mark.parametrize("text", ["{", "[]", '{"no_such_setting": 1}'])
def test_bad_config_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    monkeypatch.setenv("METIS_CONFIG_FILE", str(file))
    with pytest.raises(ConfigurationError, match=r"config\.json"):
        load_settings()


@pytest.mark.parametrize(
    "wrong",
    [
        {"database_password": "postgres"},
        {"database_password": " ChangeMe "},
        {"database_url": "postgresql://postgres:postgres@host/db"},
        {"mem0_api_key": "default_dev_key"},
        {"mem0_api_key": "<your key>"},
        {"auth_mode": "keys"},
    ],
)
def test_placeholders_and_open_doors_are_refused(wrong: dict[str, str]) -> None:
    good = load_settings(auth_mode="none", database_password="kJ8-2hs", mem0_api_key="mk_8sj2")
    refuse_to_start(good)
    with pytest.raises(ConfigurationError):
        refuse_to_start(load_settings(**({"auth_mode": "none"} | wrong)))


def test_url_is_built_from_the_parts() -> None:
    settings = load_settings(
        database_user="a@b", database_password="p/w:d", database_host="h", database_port=1,
        database_name="n",
    )  # fmt: skip
    url = driver_url(settings, "asyncpg")
    assert (url.username, url.password, url.host, url.port, url.database) == (
        "a@b", "p/w:d", "h", 1, "n",
    )  # fmt: skip


def test_sslmode_is_understood_by_both_drivers() -> None:
    settings = load_settings(database_url="postgresql+asyncpg://h/d?sslmode=require&x=1")
    assert dict(driver_url(settings, "asyncpg").query) == {"ssl": "require", "x": "1"}
    assert driver_url(settings, "psycopg").query["sslmode"] == "require"


def test_credentials(tmp_path: Path) -> None:
    user, password = tmp_path / "username", tmp_path / "password"
    user.write_text("from-file\n")
    password.write_text("secret-from-file\n")
    plain: dict[str, Any] = {"database_user": "ann", "database_password": "pw"}
    in_url = load_settings(database_url="postgresql://x:y@h/d", **plain)
    assert credentials(in_url) == {}
    bare = load_settings(database_url="postgresql://h/d", **plain)
    assert credentials(bare) == {"user": "ann", "password": "pw"}
    files = {"database_user_file": user, "database_password_file": password}
    mounted = load_settings(database_url="postgresql://x:y@h/d", **plain, **files)
    assert credentials(mounted) == {"user": "from-file", "password": "secret-from-file"}
    password.unlink()
    with pytest.raises(DatabaseUnavailableError, match="password"):
        credentials(mounted)


def test_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert __version__ == project["version"]
