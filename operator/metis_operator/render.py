"""The chart's rendering, by the Helm CLI; what was rendered once is remembered.

Helm takes some fifty milliseconds of CPU for each release. A thousand of the same values differ
by their names alone, so these share one rendering: see ``_Family``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import tempfile
import time
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
import yaml

from . import metrics
from .errors import MetisOperatorError, RenderError

log = structlog.get_logger(__name__)

_TIMEOUT = 60.0
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class HelmUnavailableError(MetisOperatorError):
    """Helm could not be run at all; that may pass."""


# Stand for name and namespace in a rendering that serves many releases.
_ANY_NAME, _ANY_NAMESPACE = "placeholder-of-name", "placeholder-of-namespace"


@dataclass
class _Family:
    """Releases with the same values; most often they differ by name and namespace alone.

    ``text`` is then the rendering of them all, compressed, with placeholders. It is made for the
    second release, and used once it is proven to give exactly what Helm rendered for the first.
    """

    first: tuple[str, str]
    text: bytes | None = None
    differs: bool = False
    trial: asyncio.Lock = field(default_factory=asyncio.Lock)


class Renderer:
    """``helm template`` of one chart, memoised by the chart's content and all arguments.

    ``capacity`` is the number of renderings kept, each some kilobytes, compressed.
    """

    def __init__(self, chart_dir: Path, helm: str = "helm", *, capacity: int = 2000) -> None:
        self._chart_dir = chart_dir
        self._helm = helm
        self._capacity = capacity
        self._known: OrderedDict[str, bytes | RenderError] = OrderedDict()
        self._families: OrderedDict[str, _Family] = OrderedDict()
        self._turn = asyncio.Semaphore(os.cpu_count() or 1)
        self._chart_digest = digest_of_files(chart_dir)
        chart = yaml.safe_load((chart_dir / "Chart.yaml").read_text(encoding="utf-8"))
        self.version = str(chart.get("appVersion", ""))

    async def render(
        self, name: str, namespace: str, values: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """The documents that the chart renders for a release of that name.

        Raises:
            RenderError: the chart refuses the values.
            HelmUnavailableError: Helm did not run to its end.
        """
        text = json.dumps(values, sort_keys=True)
        family = self._family(name, namespace, text)
        if family.text is None and not family.differs:
            async with family.trial:
                await self._try(family, (name, namespace), text)
        if family.text is not None:
            return _documents(_filled(family.text, name, namespace))
        rendered = await self._rendered(name, namespace, text)
        if isinstance(rendered, RenderError):
            raise rendered
        return _documents(zlib.decompress(rendered))

    def _family(self, name: str, namespace: str, values: str) -> _Family:
        family = self._families.setdefault(values, _Family((name, namespace)))
        _keep(self._families, values, self._capacity)
        return family

    async def _try(self, family: _Family, release: tuple[str, str], values: str) -> None:
        """At its second release, find out whether all share a rendering."""
        if family.text is not None or family.differs:
            return
        first = await self._rendered(*family.first, values)
        if release == family.first:
            return
        general = await self._run(_ANY_NAME, _ANY_NAMESPACE, values)
        if (
            isinstance(first, bytes)
            and isinstance(general, bytes)
            and _filled(general, *family.first) == zlib.decompress(first)
        ):
            family.text = general
            self._known.pop(self._key(*family.first, values), None)
        else:
            family.differs = True

    async def _rendered(self, name: str, namespace: str, values: str) -> bytes | RenderError:
        """What Helm makes of exactly this, or made of it before."""
        key = self._key(name, namespace, values)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = await self._run(name, namespace, values)
        _keep(self._known, key, self._capacity)
        return known

    def _key(self, name: str, namespace: str, values: str) -> str:
        parts = (self._chart_digest, name, namespace, values)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    async def _run(self, name: str, namespace: str, values: str) -> bytes | RenderError:
        async with self._turn:
            started = time.monotonic()
            code, out, err = await self._helm_template(name, namespace, values)
            metrics.RENDER_SECONDS.observe(time.monotonic() - started)
        if code != 0:
            return RenderError(_explain(err))
        try:
            documents = [d for d in yaml.load_all(out, Loader=_Loader) if isinstance(d, dict)]
            return zlib.compress(json.dumps(documents).encode(), 1)
        except (yaml.YAMLError, TypeError) as error:
            return RenderError(f"The chart renders something that is no YAML: {error}")

    async def _helm_template(
        self, name: str, namespace: str, values: str
    ) -> tuple[int, bytes, str]:
        command = [self._helm, "template", name, str(self._chart_dir)]
        command += ["--namespace", namespace, "--values", "-"]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=_environment(),
            )
        except OSError as error:
            raise HelmUnavailableError(f"Cannot run {self._helm}: {error}") from error
        try:
            async with asyncio.timeout(_TIMEOUT):
                out, err = await process.communicate(values.encode())
        except TimeoutError as error:
            raise HelmUnavailableError(
                f"helm template of {name} took longer than {_TIMEOUT:.0f} s: it is tried again."
            ) from error
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode is None or process.returncode < 0:
            raise HelmUnavailableError(f"helm template of {name} was killed.")
        return process.returncode, out, err.decode(errors="replace")


def _filled(rendering: bytes, name: str, namespace: str) -> bytes:
    """A compressed rendering with placeholders, for one release."""
    text = zlib.decompress(rendering).replace(_ANY_NAMESPACE.encode(), namespace.encode())
    return text.replace(_ANY_NAME.encode(), name.encode())


def _documents(text: bytes) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = json.loads(text)
    return documents


def _keep(memo: OrderedDict[str, Any], key: str, capacity: int) -> None:
    """Note the use of ``key``; what was not used for longest goes when there is too much."""
    memo.move_to_end(key)
    if len(memo) > capacity:
        memo.popitem(last=False)


def digest_of_files(folder: Path) -> str:
    """A fingerprint of every file under ``folder``: names and contents."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        total.update(f"{path.relative_to(folder)}\0".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _environment() -> dict[str, str]:
    """Helm sees no cluster and writes nowhere but into the temporary folder."""
    scratch = tempfile.gettempdir()
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "TMPDIR")}
    return kept | {
        "HELM_CACHE_HOME": f"{scratch}/helm/cache",
        "HELM_CONFIG_HOME": f"{scratch}/helm/config",
        "HELM_DATA_HOME": f"{scratch}/helm/data",
        "KUBECONFIG": "/dev/null",
    }


def _explain(stderr: str) -> str:
    """Helm's own message, on one line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    starts = [i for i, line in enumerate(lines) if line.startswith("Error:")]
    said = " ".join(lines[starts[0] :] if starts else lines).removeprefix("Error:").strip()
    return f"The chart refuses the spec: {said or 'Helm gave no reason.'}"
