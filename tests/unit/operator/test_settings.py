from __future__ import annotations

from pathlib import Path

import pytest
from metis_operator.errors import SettingsError
from metis_operator.settings import Settings


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    chart = tmp_path / "stack"
    chart.mkdir()
    (chart / "Chart.yaml").write_text("name: stack\n")
    return {"METIS_CHART_DIR": str(chart), "METIS_CRD_FILE": "", "METIS_HELM": "/bin/sh"}


def test_the_environment_is_read(env: dict[str, str]) -> None:
    settings = Settings.from_env(
        env | {"METIS_WATCH_NAMESPACE": "a, b,,a", "METIS_HTTP_PORT": "9000"}
    )
    assert settings.watch_namespaces == ("a", "b")
    assert settings.http_port == 9000
    assert settings.crd_file is None
    assert settings.defaults() == {}


def test_defaults_are_a_partial_spec(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "defaults.yaml"
    file.write_text("models: {chat: small}\n")
    settings = Settings.from_env(env | {"METIS_OPERATOR_DEFAULTS_FILE": str(file)})
    assert settings.defaults() == {"models": {"chat": "small"}}
    file.write_text("")
    assert settings.defaults() == {}
    for nonsense in ("- a list\n", "a: [\n"):
        file.write_text(nonsense)
        with pytest.raises(SettingsError, match=r"defaults\.yaml"):
            settings.defaults()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("METIS_CHART_DIR", "/nowhere", "METIS_CHART_DIR"),
        ("METIS_CRD_FILE", "/nowhere", "METIS_CRD_FILE"),
        ("METIS_OPERATOR_DEFAULTS_FILE", "/nowhere", "METIS_OPERATOR_DEFAULTS_FILE"),
        ("METIS_HELM", "/nowhere/helm", "METIS_HELM"),
        ("METIS_HTTP_PORT", "many", "METIS_HTTP_PORT"),
        ("METIS_RESYNC_SECONDS", "0", "above 0"),
        ("METIS_LOG_LEVEL", "loud", "METIS_LOG_LEVEL"),
    ],
)
def test_what_cannot_work_is_refused_at_once(
    env: dict[str, str], name: str, value: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        Settings.from_env(env | {name: value})
