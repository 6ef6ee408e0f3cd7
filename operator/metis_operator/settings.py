"""The operator's settings, all from the environment."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .errors import SettingsError


@dataclass(frozen=True)
class Settings:
    """How this process works. Durations are in seconds."""

    chart_dir: Path
    crd_file: Path | None
    defaults_file: Path | None
    watch_namespaces: tuple[str, ...] = ()
    namespace: str = "default"
    lease: str = "metis-operator"
    identity: str = "metis-operator"
    helm: str = "helm"
    http_host: str = "0.0.0.0"  # noqa: S104  probes and scrapes come from outside the pod
    http_port: int = 8080
    concurrency: int = 8
    upgrade_max_concurrent: int = 3
    resync: float = 600.0
    ping: float = 10.0
    log_level: str = "INFO"

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read ``METIS_*`` variables.

        Raises:
            SettingsError: a number is not one, or a file or program named does not exist.
        """
        env = os.environ if env is None else env
        crd = env.get("METIS_CRD_FILE", "/srv/charts/operator/crds/metisrags.metisrag.dev.yaml")
        defaults = env.get("METIS_OPERATOR_DEFAULTS_FILE", "")
        settings = cls(
            chart_dir=Path(env.get("METIS_CHART_DIR", "/srv/charts/stack")),
            crd_file=Path(crd) if crd else None,
            defaults_file=Path(defaults) if defaults else None,
            watch_namespaces=_names(env.get("METIS_WATCH_NAMESPACE", "")),
            namespace=env.get("METIS_NAMESPACE", "default"),
            lease=env.get("METIS_LEASE", "metis-operator"),
            # Without a pod's unique name, two processes must not take each other's for their own.
            identity=env.get("METIS_IDENTITY") or f"{socket.gethostname()}-{os.getpid()}",
            helm=env.get("METIS_HELM", "helm"),
            http_host=env.get("METIS_HTTP_HOST", "0.0.0.0"),  # noqa: S104  as above
            http_port=int(_number(env, "METIS_HTTP_PORT", 8080)),
            concurrency=max(1, int(_number(env, "METIS_CONCURRENCY", 8))),
            upgrade_max_concurrent=max(1, int(_number(env, "METIS_UPGRADE_MAX_CONCURRENT", 3))),
            resync=_number(env, "METIS_RESYNC_SECONDS", 600),
            ping=_number(env, "METIS_PING_SECONDS", 10),
            log_level=env.get("METIS_LOG_LEVEL", "INFO").upper(),
        )
        settings.check()
        return settings

    def check(self) -> None:
        """Raise SettingsError for what would only fail later and less clearly."""
        if not (self.chart_dir / "Chart.yaml").is_file():
            raise SettingsError(
                f"No chart at {self.chart_dir}: set METIS_CHART_DIR to the folder of charts/stack."
            )
        for name, path in (
            ("METIS_CRD_FILE", self.crd_file),
            ("METIS_OPERATOR_DEFAULTS_FILE", self.defaults_file),
        ):
            if path is not None and not path.is_file():
                raise SettingsError(f"{name} names {path}, which is not there.")
        if shutil.which(self.helm) is None:
            raise SettingsError(
                f"Helm is not at {self.helm!r}: put helm 4 on the PATH or set METIS_HELM."
            )
        if self.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise SettingsError(
                f"METIS_LOG_LEVEL is {self.log_level!r}: it must be DEBUG, INFO, WARNING or ERROR."
            )

    def defaults(self) -> dict[str, Any]:
        """The platform's partial spec that lies under every MetisRAG; empty when there is none.

        Raises:
            SettingsError: the file is not YAML, or not a map.
        """
        if self.defaults_file is None:
            return {}
        try:
            loaded = yaml.safe_load(self.defaults_file.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise SettingsError(
                f"The operator's defaults in {self.defaults_file} cannot be read: {error}"
            ) from error
        if loaded is None:
            return {}
        if not isinstance(loaded, dict):
            raise SettingsError(
                f"The operator's defaults in {self.defaults_file} are no map: "
                "they must be a partial spec of a MetisRAG."
            )
        return loaded

    def chart_values(self, *sections: str) -> dict[str, Any]:
        """Sections of the chart's own values: the defaults of what the operator itself acts on.

        Raises:
            SettingsError: the chart is not there.
        """
        path = self.chart_dir / "values.yaml"
        try:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise SettingsError(f"The chart's values in {path} cannot be read: {error}") from error
        return {section: loaded[section] for section in sections if section in loaded}


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _number(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, "")
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if number <= 0:
        raise SettingsError(f"{name} is {text!r}: it must be a number above 0.")
    return number
