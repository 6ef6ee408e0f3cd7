"""The keys that open the Mem0 server: one fixed key, or a mounted Secret that may change.

A key is replaced while it is in use: for a while the Secret holds ``current`` (the new one) and
``previous`` (the old one), and Mem0's pods may learn of it before or after this one. So both are
held, ``current`` is tried first, and the files are looked at again for every request: two
``stat`` calls, some microseconds, and no watcher that could stop unseen.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
from pathlib import Path
from typing import Protocol

NAMES = ("current", "previous")


def fingerprint(key: str) -> str:
    """The first 12 hex digits of the key's SHA-256: names a key without giving it away."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


class KeySource(Protocol):
    """Where keys come from."""

    def held(self) -> tuple[str, ...]:
        """The keys held now, the one to try first in front; empty when there is none."""
        ...


def recognises(source: KeySource, candidate: str) -> bool:
    """True when ``candidate`` is one of the keys held; compared in constant time."""
    given = candidate.encode()
    return any(hmac.compare_digest(given, key.encode()) for key in source.held())


class FixedKey:
    """One key that does not change, for local runs; ``None`` or blank is no key."""

    def __init__(self, key: str | None) -> None:
        self._keys = (key.strip(),) if key and key.strip() else ()

    def held(self) -> tuple[str, ...]:
        """The key, or nothing."""
        return self._keys


class MountedKeys:
    """``current`` and ``previous`` in a directory, as a mounted Secret shows them.

    The kubelet swaps the whole directory behind a link, so a changed Secret shows in the inode of
    the files. While neither file can be read, what was read last stays in use; ``previous``
    absent beside a readable ``current`` means that the old key is gone.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._seen: tuple[object, ...] | None = None
        self._keys: tuple[str, ...] = ()

    def held(self) -> tuple[str, ...]:
        """The keys in the directory now."""
        state = tuple(self._state(name) for name in NAMES)
        with self._lock:
            if state != self._seen:
                found = self._read()
                if found:
                    self._keys, self._seen = found, state
            return self._keys

    def _state(self, name: str) -> object:
        try:
            stat = (self._directory / name).stat()
        except OSError:
            return None
        return (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)

    def _read(self) -> tuple[str, ...]:
        found = []
        for name in NAMES:
            try:
                key = (self._directory / name).read_text().strip()
            except OSError:
                key = ""
            if key and key not in found:
                found.append(key)
        return tuple(found)


def key_source(key: str | None, directory: Path | None) -> KeySource:
    """Where the settings say that keys are: one fixed key, or else a mounted Secret."""
    return MountedKeys(directory) if directory is not None and not key else FixedKey(key)
