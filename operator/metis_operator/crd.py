"""The operator brings its CRD along, because Helm never upgrades one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
import yaml

from .cluster import Cluster
from .core import names
from .core.compare import differences
from .core.objects import CRD, Key, annotations_of
from .errors import ClusterError, SettingsError

log = structlog.get_logger(__name__)


def load(path: Path) -> dict[str, Any]:
    """The CustomResourceDefinition in the file.

    Raises:
        SettingsError: the file holds something else.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise SettingsError(f"The CRD in {path} cannot be read: {error}") from error
    if not isinstance(loaded, dict) or loaded.get("kind") != CRD.kind:
        raise SettingsError(f"{path} holds no {CRD.kind}: check METIS_CRD_FILE.")
    return loaded


def version_of(crd: Mapping[str, Any]) -> tuple[int, ...]:
    """The version in the CRD's annotation as comparable numbers; ``(0,)`` for one without."""
    text = annotations_of(crd).get(names.ANNOTATION_CRD_VERSION, "")
    parts = text.split("-", 1)[0].split(".")
    return tuple(int(p) for p in parts) if all(p.isdigit() for p in parts) else (0,)


async def bring(cluster: Cluster, bundled: dict[str, Any]) -> None:
    """Apply the bundled CRD unless the cluster's is newer, or already like it.

    Without the permission to do so, the CRD is somebody else's business: that is logged.

    Raises:
        ClusterError: the API server does not answer, or refuses the CRD itself.
    """
    key = Key(CRD, "", bundled["metadata"]["name"])
    try:
        live = await cluster.get(key)
        if live is not None and version_of(live) > version_of(bundled):
            log.warning("the cluster's CRD is newer than this operator's: it is left as it is")
            return
        if live is None or differences(bundled, live):
            await cluster.apply(key, bundled)
            log.info("CRD applied", version=".".join(map(str, version_of(bundled))))
    except ClusterError as error:
        if error.code != 403:
            raise
        log.warning("may not bring the CRD up to date", cause=str(error))
