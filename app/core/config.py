"""Settings of the app: one object, ``SETTINGS``, from four layers.

From strongest to weakest: arguments (tests), the environment, ``.env`` in the working directory
(local runs), the JSON file that ``METIS_CONFIG_FILE`` names, the defaults below. A variable's name
is the attribute's in upper case; within one layer a ``METIS_*`` alias wins over the plain name.
Nothing is read from a database or a network here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from dotenv import dotenv_values
from pydantic import Field, PrivateAttr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from app.errors import ConfigurationError

ALIASES = {
    "database_type": "METIS_DB_TYPE",
    "database_url": "METIS_POSTGRES_DSN",
    "llm_provider_type": "METIS_LLM_PROVIDER_TYPE",
    "ollama_base_url": "METIS_OLLAMA_BASE_URL",
    "openai_base_url": "METIS_OPENAI_BASE_URL",
}
"""Names that win over the attribute's own."""

PLACEHOLDERS = frozenset(
    {
        "admin", "change-me", "change_me", "changeme", "default", "default_dev_key", "dev_key",
        "example", "passwd", "password", "placeholder", "postgres", "secret", "test_key", "todo",
        "xxx", "your-api-key", "your_api_key",
    }
)  # fmt: skip
"""Values that tutorials leave behind where a secret belongs."""


class Settings(BaseSettings):
    """Every setting with its type and default; see ``.env.example`` for what each does."""

    model_config = SettingsConfigDict(extra="ignore", validate_default=True)

    api_v1_str: str = "/api"
    project_name: str = "Metis RAG"
    host: str = "0.0.0.0"  # noqa: S104 - the default is the container
    port: int = Field(8000, ge=0, le=65535)
    drain_delay: float = Field(5.0, ge=0)
    drain_timeout: float = Field(60.0, ge=0)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    cors_origins: list[str] = []

    llm_provider_type: Literal["ollama", "openai"] = "ollama"
    embedding_provider_type: Literal["", "ollama", "openai"] = ""
    ollama_base_url: str = "http://localhost:11434"
    ollama_pods: str = Field("", pattern=r"^([^:/]+:[0-9]+)?$")
    ollama_ready_pods: str = Field("", pattern=r"^([^:/]+:[0-9]+)?$")
    openai_base_url: str = ""
    openai_embedding_base_url: str = ""
    openai_api_key: str | None = Field(None, repr=False)
    openai_api_key_file: Path | None = None
    openai_embedding_api_key_file: Path | None = None
    tls_ca_dir: Path | None = None
    default_model: str = Field("gemma3:12b", min_length=1)
    default_embedding_model: str = Field("nomic-embed-text", min_length=1)
    chat_context_tokens: int = Field(4096, ge=1024)
    chat_answer_tokens: int = Field(768, ge=16)
    chat_temperature: float = Field(0.2, ge=0, le=2)
    chat_timeout: float = Field(300.0, gt=0)
    embedding_batch_size: int = Field(16, ge=1, le=512)
    embedding_timeout: float = Field(120.0, gt=0)
    reindex: bool = False
    reindex_share: float = Field(0.5, gt=0, le=1)

    chunking_judge_model: str = "gemma3:12b"
    retrieval_judge_model: str = "gemma3:12b"
    langgraph_rag_model: str = "gemma3:12b"
    use_chunking_judge: bool = True
    use_retrieval_judge: bool = True
    use_langgraph_rag: bool = True
    use_enhanced_langgraph_rag: bool = True

    upload_dir: Path = Path("./data/uploads")
    chroma_db_dir: Path = Path("./data/chroma_db")
    upload_max_bytes: int = Field(50 * 1024 * 1024, ge=1)
    upload_max_files: int = Field(50, ge=1)
    chunk_size: int = Field(1500, ge=100)
    chunk_overlap: int = Field(150, ge=0)
    retrieval_limit: int = Field(6, ge=1, le=50)

    database_type: str = "postgresql"
    database_user: str = "postgres"
    database_password: str | None = Field(None, repr=False)
    database_user_file: Path | None = None
    database_password_file: Path | None = None
    database_host: str = "localhost"
    database_port: int = Field(5432, ge=1, le=65535)
    database_name: str = "metis_rag"
    database_url: str = Field("", repr=False)
    database_tls_mode: Literal["", "disable", "prefer", "require", "verify-ca", "verify-full"] = ""
    database_ca_file: Path | None = None
    database_pool_size: int = Field(5, ge=1)
    database_max_overflow: int = Field(10, ge=0)
    sql_echo: bool = False

    use_mem0: bool = True
    mem0_endpoint: str = "http://localhost:8050"
    mem0_api_key: str | None = Field(None, repr=False)
    mem0_api_key_dir: Path | None = None
    mem0_timeout: float = Field(5.0, gt=0)
    memory_time_limit: float = Field(2.0, gt=0)
    mem0_human_cache_size: int = Field(1000, ge=1)
    mem0_human_cache_ttl: float = Field(300.0, gt=0)
    mem0_recall_cache_size: int = Field(1000, ge=1)
    mem0_recall_cache_ttl: float = Field(60.0, gt=0)
    mem0_archival_cache_size: int = Field(2000, ge=1)
    mem0_archival_cache_ttl: float = Field(300.0, gt=0)
    mem0_search_cache_size: int = Field(2000, ge=1)
    mem0_search_cache_ttl: float = Field(120.0, gt=0)
    mem0_not_found_ttl: float = Field(5.0, gt=0)

    auth_mode: Literal["keys", "none"] = "keys"
    auth_keys_file: Path | None = None

    _database_configured: bool = PrivateAttr(False)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Our four layers instead of pydantic's own, which merge aliases across layers."""
        dotenv = _dotenv()
        file = config_file()
        return (
            init_settings,
            _Layer(settings_cls, os.environ),
            _Layer(settings_cls, dotenv),
            _Layer(settings_cls, _read_config_file(file) if file else {}),
        )

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: Any) -> Any:
        if isinstance(value, str):
            return json.loads(value) if value.startswith("[") else value.replace(",", " ").split()
        return value

    @field_validator("api_v1_str")
    @classmethod
    def _prefix(cls, value: str) -> str:
        if not value.startswith("/") or value.endswith("/"):
            raise ValueError("must begin with / and not end with it")
        return value

    @field_validator("database_type")
    @classmethod
    def _database_type(cls, value: str) -> str:
        if value not in {"postgresql", "postgres"}:
            raise ValueError("only postgresql is supported: the vectors live in pgvector")
        return "postgresql"

    @field_validator("openai_base_url", "openai_embedding_base_url")
    @classmethod
    def _http_url_or_none(cls, value: str) -> str:
        return cls._http_url(value) if value else value

    @field_validator("ollama_base_url", "mem0_endpoint")
    @classmethod
    def _http_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be an address such as http://host:port")
        return value.rstrip("/")

    @field_validator("database_url")
    @classmethod
    def _postgres_url(cls, value: str) -> str:
        # Drivers may be named (postgresql+asyncpg://), as other tools want it; ours is used.
        if value and urlsplit(value).scheme.partition("+")[0] not in {"postgresql", "postgres"}:
            raise ValueError("must be an address such as postgresql://host:5432/database")
        return value

    @property
    def database_configured(self) -> bool:
        """Whether anybody said where the database is: a library may be used without one."""
        return self._database_configured

    @model_validator(mode="after")
    def _fit_together(self) -> Settings:
        if self.chunk_overlap >= self.chunk_size:
            raise ValueError("CHUNK_OVERLAP must be smaller than CHUNK_SIZE")
        if self.chat_answer_tokens > self.chat_context_tokens // 2:
            raise ValueError("CHAT_ANSWER_TOKENS must be at most half of CHAT_CONTEXT_TOKENS")
        self._database_configured = bool(
            self.database_url or self.model_fields_set & {"database_host", "database_password"}
        )
        embedding = self.embedding_provider_type or self.llm_provider_type
        lacking = (self.llm_provider_type == "openai" and not self.openai_base_url) or (
            embedding == "openai" and not (self.openai_embedding_base_url or self.openai_base_url)
        )
        if lacking:
            raise ValueError(
                "OPENAI_BASE_URL must be set with the provider openai, such as http://vllm:8000/v1"
            )
        if self.database_ca_file and not self.database_tls_mode:
            self.database_tls_mode = "verify-full"
        if self.database_ca_file and self.database_tls_mode not in ("verify-ca", "verify-full"):
            raise ValueError(
                "DATABASE_CA_FILE is of use only with DATABASE_TLS_MODE verify-full or verify-ca"
            )
        if not self.database_url:
            self.database_url = self._built_url()
        return self

    def _built_url(self) -> str:
        if self.database_user_file:
            login = ""
        else:
            secret = f":{quote(self.database_password, safe='')}" if self.database_password else ""
            login = f"{quote(self.database_user, safe='')}{secret}@"
        return f"postgresql://{login}{self.database_host}:{self.database_port}/{self.database_name}"


class _Layer(PydanticBaseSettingsSource):
    """One mapping of variable names (any case) to values, read with our aliases."""

    def __init__(self, settings_cls: type[BaseSettings], values: Mapping[str, Any]) -> None:
        super().__init__(settings_cls)
        self._values = {name.upper(): value for name, value in values.items()}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The value for a field, None when the layer has none; an empty text counts as none."""
        for name in (ALIASES.get(field_name, ""), field_name.upper()):
            value = self._values.get(name)
            if value is not None and value != "":
                return value, field_name, False
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        fields = self.settings_cls.model_fields
        found = {name: self.get_field_value(field, name)[0] for name, field in fields.items()}
        return {name: value for name, value in found.items() if value is not None}


def refuse_to_start(settings: Settings) -> None:
    """Raise ConfigurationError when the app must not start with these settings.

    Apart from :func:`load_settings`, so that the memory client can be imported as a library.
    """
    secrets = {
        "DATABASE_PASSWORD": settings.database_password,
        "the password in DATABASE_URL": urlsplit(settings.database_url).password,
        "MEM0_API_KEY": settings.mem0_api_key,
    }
    for name, value in secrets.items():
        if value and is_placeholder(value):
            raise ConfigurationError(f"{name} is a placeholder, not a secret: set one of your own")
    if settings.auth_mode == "keys" and settings.auth_keys_file is None:
        raise ConfigurationError(
            "AUTH_MODE=keys needs AUTH_KEYS_FILE, the JSON file with the hashes of the keys; "
            "for a single user on a machine of their own set AUTH_MODE=none"
        )


def is_placeholder(value: str) -> bool:
    """Whether ``value`` is one that tutorials leave behind, ``<like this>`` or blank."""
    plain = value.strip().lower()
    return plain in PLACEHOLDERS or (plain.startswith("<") and plain.endswith(">")) or not plain


def config_file() -> Path | None:
    """The JSON file that ``METIS_CONFIG_FILE`` names."""
    file = os.environ.get("METIS_CONFIG_FILE") or _dotenv().get("METIS_CONFIG_FILE")
    return Path(file) if file else None


def _dotenv() -> dict[str, str]:
    return {k: v for k, v in dotenv_values(".env").items() if v is not None}


def _read_config_file(path: Path) -> dict[str, Any]:
    """The settings of a JSON file; raises ConfigurationError naming the file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"METIS_CONFIG_FILE {path} cannot be read: {error}") from error
    except ValueError as error:
        raise ConfigurationError(f"METIS_CONFIG_FILE {path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"METIS_CONFIG_FILE {path} must hold one JSON object")
    known = {*Settings.model_fields, *(alias.lower() for alias in ALIASES.values())}
    unknown = sorted(name for name in values if name.lower() not in known)
    if unknown:
        raise ConfigurationError(
            f"METIS_CONFIG_FILE {path} holds unknown settings: {', '.join(unknown)}"
        )
    return values


def load_settings(**overrides: Any) -> Settings:
    """Read all layers; raises ConfigurationError with one line per wrong setting.

    Pydantic's own message would print the value, which may be a secret; ours does not.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in problem['loc']).upper() or 'settings'}: "
            f"{problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise ConfigurationError("wrong settings:\n  " + "\n  ".join(lines)) from None


SETTINGS = load_settings()
