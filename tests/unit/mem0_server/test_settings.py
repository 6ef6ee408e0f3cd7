from pathlib import Path
from typing import Any

import pytest

from mem0_server.errors import SettingsError
from mem0_server.settings import Settings, key_problem, load_settings

URL = "postgresql://db.example:5432/mem0"
KEY = "mk_a-real-key-of-enough-length"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def problem(**given: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(**given)
    return caught.value.message


@pytest.mark.parametrize("key", ["default_dev_key", "ChangeMe", "secret", "short", ""])
def test_a_placeholder_or_short_key_is_refused_and_not_told(key: str) -> None:
    assert key_problem(key)
    said = problem(database_url=URL, mem0_admin_api_key=key)
    assert said.startswith("the settings cannot be used: MEM0_ADMIN_API_KEY: it ")
    assert not key or key not in said


def test_a_key_has_to_come_from_somewhere() -> None:
    assert "set MEM0_API_KEY_DIR" in problem(database_url=URL)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"database_url": "sqlite:///x"}, "DATABASE_URL: must start with postgresql://"),
        ({"database_url": "postgresql://postgres:postgres@h/d"}, "DATABASE_URL: its password"),
        ({"database_password": "changeme"}, "DATABASE_PASSWORD: is a placeholder"),
        ({"port": 0}, "PORT: "),
        ({"log_level": "loud"}, "LOG_LEVEL: "),
    ],
)
def test_a_wrong_value_is_named_by_its_variable(given: dict[str, Any], said: str) -> None:
    assert said in problem(**{"database_url": URL, "mem0_admin_api_key": KEY, **given})


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("MEM0_ADMIN_API_KEY", KEY)
    monkeypatch.setenv("EMBEDDING_MODEL", "all-minilm")
    settings = load_settings()
    assert settings.embedding_model == "all-minilm"
    assert KEY not in repr(settings)


def test_credentials_are_read_anew_each_time(tmp_path: Path) -> None:
    user, password = tmp_path / "username", tmp_path / "password"
    user.write_text("app_a\n")
    password.write_text("first\n")
    settings = load_settings(
        database_url=URL,
        mem0_admin_api_key=KEY,
        database_user_file=user,
        database_password_file=password,
        database_password="the file wins",
    )
    assert settings.database_credentials() == {"user": "app_a", "password": "first"}
    user.write_text("app_b")
    password.write_text("second")
    assert settings.database_credentials() == {"user": "app_b", "password": "second"}


def test_messages_name_the_database_without_credentials() -> None:
    settings = load_settings(
        database_url="postgresql://me:hidden@db.example:5433/mem0", mem0_admin_api_key=KEY
    )
    assert settings.database_name == "db.example:5433/mem0"


def test_every_setting_and_its_default_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "memory-server.md").read_text()
    table = [line for line in page.splitlines() if line.startswith("| `")]
    for name, field in Settings.model_fields.items():
        (row,) = [line for line in table if f"`{name.upper()}`" in line.split("|")[1]]
        default = field.default
        if isinstance(default, bool):
            assert str(default).lower() in row, name
        elif isinstance(default, int | float):
            assert f"{default:.10g}" in row, name
        elif isinstance(default, str):
            assert default in row, name
