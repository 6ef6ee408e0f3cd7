"""Whether an image registry answers from this machine, or images have to be built here."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from functools import cache

from hack.cache import CACHE
from hack.errors import HackError

_PROBES = ("https://registry-1.docker.io/v2/", "https://registry.ollama.ai/v2/")
"""Where the images and the models come from; both have to answer."""
_LIMIT = 4.0
_MEMORY = CACHE / "registry"


@cache
def online() -> bool:
    """Whether images and models are pulled (True) or built from package registries (False).

    ``METIS_REGISTRY=online|offline`` decides; ``auto`` asks the registries. Without it, what the
    cluster was made with goes on: a registry that is away for a minute must not turn a cluster of
    pulled images into one of built ones.

    Raises:
        HackError: METIS_REGISTRY has another value.
    """
    wish = os.environ.get("METIS_REGISTRY") or remembered() or "auto"
    if wish not in ("auto", "online", "offline"):
        raise HackError(
            f"METIS_REGISTRY is {wish!r}", "Set it to auto, online or offline, or unset it."
        )
    return wish == "online" if wish != "auto" else all(map(_answers, _PROBES))


def remembered() -> str:
    """What the clusters of this machine were made with; empty when there is none."""
    return _MEMORY.read_text() if _MEMORY.is_file() else ""


def remember() -> None:
    """Keep the answer for later runs."""
    _MEMORY.parent.mkdir(parents=True, exist_ok=True)
    _MEMORY.write_text("online" if online() else "offline")


def forget() -> None:
    """Ask anew in the next run."""
    _MEMORY.unlink(missing_ok=True)


def _answers(url: str) -> bool:
    """Whether a registry speaks there. "Not allowed" is an answer, a proxy's error page is none."""
    try:
        with urllib.request.urlopen(url, timeout=_LIMIT) as response:  # noqa: S310  (https above)
            return bool(response.status == 200)
    except urllib.error.HTTPError as error:
        return error.code == 401 or (error.code == 404 and "ollama" in url)
    except OSError:
        return False
