"""The chart's rendering, by the Helm CLI; what was rendered once is remembered."""

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


class Renderer:
    """``helm template`` of one chart, memoised by the chart's content and all arguments.

    ``capacity`` is the number of renderings kept, each some kilobytes, compressed.
    """

    def __init__(self, chart_dir: Path, helm: str = "helm", *, capacity: int = 2000) -> None:
        self._chart_dir = chart_dir
        self._helm = helm
        self._capacity = capacity
        self._known: OrderedDict[str, bytes | RenderError] = OrderedDict()
        self._turn = asyncio.Semaphore(os.cpu_count() or 1)
        self._chart_digest = digest_of_files(chart_dir)

    async def render(
        self, name: str, namespace: str, values: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """The documents that the chart renders for a release of that name.

        Raises:
            RenderError: the chart refuses the values.
            HelmUnavailableError: Helm did not run to its end.
        """
        text = json.dumps(values, sort_keys=True)
        key = hashlib.sha256(
            "\0".join((self._chart_digest, name, namespace, text)).encode()
        ).hexdigest()
        known = self._known.get(key)
        if known is None:
            known = await self._run(name, namespace, text)
            self._known[key] = known
            if len(self._known) > self._capacity:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        if isinstance(known, RenderError):
            raise known
        documents: list[dict[str, Any]] = json.loads(zlib.decompress(known))
        return documents

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
