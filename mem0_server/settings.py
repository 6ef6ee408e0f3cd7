"""What the server is told from outside: environment variables and mounted files.

``NAME_FILE`` names a file that holds the value of ``NAME``; database credentials are read from
their files at each new connection, API keys whenever they change.
"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mem0_server.errors import SettingsError

MINIMUM_KEY_LENGTH = 16
READ_ATTEMPTS = 3
PLACEHOLDERS = frozenset(
    {
        "admin",
        "change-me",
        "change_me",
        "changeit",
        "changeme",
        "default",
        "default_dev_key",
        "dev",
        "mem0",
        "password",
        "placeholder",
        "postgres",
        "secret",
        "test",
        "your-api-key",
        "your_api_key",
    }
)


def key_problem(key: str) -> str | None:
    """Why ``key`` cannot be an API key, or ``None`` when it can."""
    if key.lower() in PLACEHOLDERS:
        return "it is a placeholder"
    if len(key) < MINIMUM_KEY_LENGTH:
        return f"it has fewer than {MINIMUM_KEY_LENGTH} characters"
    return None


class Settings(BaseSettings):
    """Everything the server can be told; each field is the environment variable of its name."""

    # Errors must not show what was given: it may be a secret.
    model_config = SettingsConfigDict(
        hide_input_in_errors=True, extra="ignore", env_ignore_empty=True
    )

    database_url: str
    database_user: str | None = None
    database_user_file: Path | None = None
    database_password: SecretStr | None = None
    database_password_file: Path | None = None
    database_tls_mode: Literal["", "disable", "prefer", "require", "verify-ca", "verify-full"] = (
        Field(default="", description="as libpq's sslmode; empty leaves it to the URL")
    )
    database_ca_file: Path | None = Field(
        default=None, description="certificates to trust; the database must then speak TLS"
    )
    database_pool_size: int = Field(default=10, ge=1, le=200)
    database_timeout: float = Field(default=10, gt=0, description="seconds for one statement")
    database_acquire_timeout: float = Field(default=5, gt=0, description="seconds for the pool")

    mem0_api_key_dir: Path | None = None
    mem0_admin_api_key: SecretStr | None = None
    mem0_admin_api_key_file: Path | None = None

    llm_provider_type: Literal["ollama", "openai"] = Field(
        default="ollama", description="openai: any server that speaks its API"
    )
    embedding_provider_type: Literal["", "ollama", "openai"] = Field(
        default="", description="where that is another kind than LLM_PROVIDER_TYPE"
    )
    ollama_base_url: str = "http://localhost:11434"
    openai_base_url: str = Field(default="", description="such as http://vllm:8000/v1")
    openai_api_key_file: Path | None = None
    openai_embedding_base_url: str = Field(
        default="", description="where the embeddings are another server's"
    )
    openai_embedding_api_key_file: Path | None = None
    tls_ca_dir: Path | None = Field(
        default=None,
        description="*.crt files: authorities trusted besides the system's, for model servers",
    )
    llm_model: str = "gemma3:12b"
    embedding_model: str = "nomic-embed-text"
    reindex: bool = Field(
        default=False, description="embed all records anew for another embedding model"
    )
    embedding_timeout: float = Field(default=60, gt=0, description="seconds to index one batch")
    search_timeout: float = Field(default=10, gt=0, description="seconds for one search")
    extraction_timeout: float = Field(default=120, gt=0, description="seconds to extract facts")
    index_threads: int = Field(default=4, ge=1, le=64)
    index_batch: int = Field(default=16, ge=1, le=256)
    index_poll: float = Field(default=2, gt=0, description="seconds between looks at the queue")
    index_keep: float = Field(
        default=3600, gt=0, description="seconds that an index is kept which no server uses"
    )
    infer_on_append: bool = Field(
        default=False, description="find facts in appended messages, where a call does not say"
    )
    infer_poll: float = Field(default=5, gt=0, description="seconds between looks at its queue")

    mem0_dir: Path = Path(tempfile.gettempdir()) / "mem0"
    host: str = "0.0.0.0"  # noqa: S104 - a server in a container listens on the pod's address
    port: int = Field(default=8050, ge=1, le=65535)
    tls_cert_file: Path | None = Field(default=None, description="serve HTTPS with this")
    tls_key_file: Path | None = None
    max_requests: int = Field(default=1000, ge=1, description="requests under way at once")
    max_body_bytes: int = Field(default=1024 * 1024, ge=1024)
    body_timeout: float = Field(default=10, gt=0, description="seconds for a body to arrive")
    head_timeout: float = Field(default=10, gt=0, description="seconds for a head to arrive")
    unread_timeout: float = Field(
        default=30, gt=0, description="seconds that a client may read nothing of its answer"
    )
    drain_delay: float = Field(
        default=5,
        ge=0,
        description="seconds served on after SIGTERM and after the last request since then",
    )
    drain_timeout: int = Field(default=15, ge=1, description="seconds for requests to finish")
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")

    @field_validator("database_url")
    @classmethod
    def _postgresql(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"postgresql", "postgres"}:
            raise ValueError("must start with postgresql://")
        if (parts.password or "").lower() in PLACEHOLDERS:
            raise ValueError("its password is a placeholder; put a real one into a file")
        return url

    @field_validator("database_password")
    @classmethod
    def _password(cls, password: SecretStr | None) -> SecretStr | None:
        if password is not None and password.get_secret_value().lower() in PLACEHOLDERS:
            raise ValueError("is a placeholder; set a real password")
        return password

    @field_validator("mem0_admin_api_key")
    @classmethod
    def _admin_key(cls, key: SecretStr | None) -> SecretStr | None:
        problem = key_problem(key.get_secret_value()) if key is not None else None
        if problem:
            raise ValueError(f"{problem}; set a random key")
        return key

    @field_validator("database_ca_file", "tls_cert_file", "tls_key_file")
    @classmethod
    def _readable(cls, file: Path | None) -> Path | None:
        if file is not None and not file.is_file():
            raise ValueError(f"there is no file {file}; mount it, or leave this out")
        return file

    @field_validator("ollama_base_url", "openai_base_url", "openai_embedding_base_url")
    @classmethod
    def _http(cls, url: str) -> str:
        if url and not url.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _address_of_each_provider(self) -> Self:
        embedding = self.embedding_provider_type or self.llm_provider_type
        own = self.openai_embedding_base_url or self.openai_base_url
        for provider, url in ((self.llm_provider_type, self.openai_base_url), (embedding, own)):
            if provider == "openai" and not url:
                raise ValueError(
                    "OPENAI_BASE_URL must be set with the provider openai, such as "
                    "http://vllm:8000/v1"
                )
        return self

    @model_validator(mode="after")
    def _certificate_and_key(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("TLS_CERT_FILE and TLS_KEY_FILE go together: set both or none")
        return self

    @model_validator(mode="after")
    def _authority_is_of_use(self) -> Self:
        modes = ("", "verify-ca", "verify-full")
        if self.database_ca_file is not None and self.database_tls_mode not in modes:
            raise ValueError(
                "DATABASE_CA_FILE is of use only with DATABASE_TLS_MODE verify-full or verify-ca"
            )
        return self

    @model_validator(mode="after")
    def _one_key_source(self) -> Self:
        sources = (self.mem0_api_key_dir, self.mem0_admin_api_key, self.mem0_admin_api_key_file)
        if all(source is None for source in sources):
            raise ValueError(
                "no API key: set MEM0_API_KEY_DIR to a directory of key files, or "
                "MEM0_ADMIN_API_KEY for a local run"
            )
        return self

    def database_credentials(self) -> dict[str, str]:
        """User and password of the moment; what is absent is left to the URL.

        :raises OSError: a credentials file cannot be read.
        """
        files = {"user": self.database_user_file, "password": self.database_password_file}
        found = read_together({name: file for name, file in files.items() if file is not None})
        if "user" not in found and self.database_user is not None:
            found["user"] = self.database_user
        if "password" not in found and self.database_password is not None:
            found["password"] = self.database_password.get_secret_value()
        return found

    def database_tls(self) -> dict[str, str]:
        """What psycopg is told of TLS; nothing where the URL says."""
        mode = self.database_tls_mode
        if self.database_ca_file is not None:
            return {"sslmode": mode or "verify-full", "sslrootcert": str(self.database_ca_file)}
        if mode in ("verify-ca", "verify-full"):
            # libpq refuses the system's authorities together with the weaker check.
            return {"sslmode": "verify-full", "sslrootcert": "system"}
        return {"sslmode": mode} if mode else {}

    @property
    def credentials_may_change(self) -> bool:
        """Whether the database credentials lie in files, which somebody may replace."""
        return self.database_user_file is not None or self.database_password_file is not None

    @property
    def database_name(self) -> str:
        """Host, port and database for messages; no user, no password."""
        parts = urlsplit(self.database_url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.hostname or 'local socket'}{port}{parts.path}"


def login_fingerprint(credentials: Mapping[str, str]) -> str:
    """The first 12 hex digits of the SHA-256 of user, newline, password: names a login."""
    text = f"{credentials.get('user', '')}\n{credentials.get('password', '')}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def read_together(files: Mapping[str, Path]) -> dict[str, str]:
    """The contents of files that belong together, as of one moment.

    The kubelet swaps the folder of a mounted Secret behind a link; a user name from before the
    swap and a password from after it would open nothing.

    :raises OSError: a file cannot be read.
    """
    for attempt in itertools.count(1):
        places = {name: file.resolve() for name, file in files.items()}
        try:
            found = {name: place.read_text().strip() for name, place in places.items()}
        except OSError:
            if attempt >= READ_ATTEMPTS:
                raise
            continue
        if attempt >= READ_ATTEMPTS or places == {n: f.resolve() for n, f in files.items()}:
            return found
    raise AssertionError("unreachable: the last attempt returns or raises")


def load_settings(**overrides: Any) -> Settings:
    """Read the environment; ``overrides`` win.

    :raises SettingsError: naming each variable at fault, never its value.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_input=False, include_url=False):
            name = ".".join(str(part) for part in problem["loc"]).upper()
            reason = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{name}: {reason}" if name else reason)
        raise SettingsError("the settings cannot be used: " + "; ".join(lines)) from None
