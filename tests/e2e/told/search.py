"""Looks for secret values in whatever files there are."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

SHORTEST = 12
"""Values with fewer characters say nothing: they stand in other words."""


def forms(value: str) -> set[str]:
    """How a value may be written: as it is, in base64, in a URL; each line of it for itself."""
    found = set()
    for line in value.splitlines():
        text = line.strip()
        if len(text) < SHORTEST or text.startswith("-----"):
            continue
        found |= {text, quote(text, safe="")}
        encoded = base64.b64encode(text.encode()).decode().rstrip("=")
        # What follows the value decides its last character.
        found.add(encoded[: len(encoded) - (len(text) % 3 != 0)])
    return found


def find(folder: Path, secrets: Mapping[str, str]) -> list[str]:
    """Where values stand in the files below ``folder``: "FILE: WHAT IT IS", never a value.

    ``secrets`` says of each value what it is.
    """
    named = {form: name for value, name in secrets.items() for form in forms(value)}
    if not named:
        return []
    # All at once, and the values neither among the arguments nor in the environment.
    done = subprocess.run(
        ["grep", "-rFoaHZ", "-f", "-", "."],
        input="\n".join(named).encode(),
        cwd=folder,
        capture_output=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
    )
    if done.returncode not in (0, 1):
        raise OSError(f"grep: {done.stderr.decode()}")
    found = set()
    for line in done.stdout.decode(errors="replace").splitlines():
        file, _, form = line.partition("\0")
        found.add(f"{file.removeprefix('./')}: {named.get(form, 'a secret value')}")
    return sorted(found)
