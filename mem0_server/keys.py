"""The API keys that are live now, and the check of a presented one.

Keys come from a directory, one a file (a mounted Secret: every file is a live key), or from one
setting. The directory is watched, so a rotation needs no restart. Only digests are kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from pathlib import Path

import structlog
from watchfiles import awatch

from mem0_server.errors import MissingKeyError, RevokedKeyError, SettingsError, UnknownKeyError
from mem0_server.settings import Settings, key_problem

log = structlog.get_logger(__name__)

# Looks at the files even when no event came: a kubelet's symlink swap can slip past a watch.
LOOK_EVERY_MS = 5_000
POLL_SECONDS = 1.0


def fingerprint(digest: bytes) -> str:
    """The first 12 hex digits of a key's SHA-256: names the key without telling it."""
    return digest.hex()[:12]


class KeyRing:
    """Every key that opens the server at this moment."""

    def __init__(self, settings: Settings) -> None:
        """Read the keys once.

        :raises SettingsError: no usable key is found.
        """
        self._directory = settings.mem0_api_key_dir
        self._file = settings.mem0_admin_api_key_file
        fixed = settings.mem0_admin_api_key
        self._fixed = fixed.get_secret_value() if fixed is not None else None
        self._digests: tuple[bytes, ...] = ()
        self._revoked: frozenset[bytes] = frozenset()
        self._presented: dict[bytes, float] = {}
        try:
            self._digests = self._read()
        except OSError as error:
            raise SettingsError(
                f"the API keys cannot be read: {error.strerror}: {error.filename}"
            ) from None
        if not self._digests:
            raise SettingsError(
                f"no usable API key in {self._directory or self._file}: put a random key of at "
                "least 16 characters into a file there"
            )

    @property
    def fingerprints(self) -> list[str]:
        """Fingerprints of the live keys."""
        return [fingerprint(digest) for digest in self._digests]

    @property
    def idle(self) -> dict[str, float]:
        """Seconds since each live key was last presented; those that never were are not in it."""
        now = time.monotonic()
        return {fingerprint(digest): now - at for digest, at in self._presented.items()}

    def check(self, presented: bytes | None, *, counts: bool = True) -> None:
        """Let a live key pass. Takes the same time for every key of the same length.

        Where it ``counts``, the key is in use at this moment.

        :raises MissingKeyError: nothing was presented.
        :raises RevokedKeyError: it was live here once.
        :raises UnknownKeyError: it is not one of the live keys.
        """
        if not presented:
            raise MissingKeyError("no API key; send it in the header X-API-Key")
        digest = hashlib.sha256(presented).digest()
        accepted = False
        for live in self._digests:
            accepted |= hmac.compare_digest(digest, live)
        if digest in self._revoked:
            raise RevokedKeyError(
                f"the API key {fingerprint(digest)} has been revoked; read the current one"
            )
        if not accepted:
            raise UnknownKeyError(
                f"the API key {fingerprint(digest)} is not live here; read the current one"
            )
        if counts:
            self._presented[digest] = time.monotonic()

    def reload(self) -> None:
        """Read the keys again. When they cannot be read, those known stay live."""
        try:
            digests = self._read()
        except OSError as error:
            log.warning("keys_unreadable", path=error.filename, reason=error.strerror)
            return
        if digests != self._digests:
            self._revoked = self._revoked.union(self._digests).difference(digests)
            self._digests = digests
            self._presented = {d: at for d, at in self._presented.items() if d in digests}
            log.info("keys_changed", accepted=self.fingerprints)

    async def watch(self) -> None:
        """Reload whenever a key file changes; runs until cancelled."""
        target = self._directory or self._file
        if target is None:
            return
        try:
            async for _ in awatch(
                target,
                watch_filter=None,  # the default one ignores names that a Secret may have
                debounce=200,
                step=20,
                rust_timeout=LOOK_EVERY_MS,
                yield_on_timeout=True,
            ):
                self.reload()
        except (OSError, RuntimeError) as error:
            # The node's inotify instances can be used up by other pods of the same uid.
            log.warning("key_watch_failed", reason=str(error), fallback="polling")
            while True:
                await asyncio.sleep(POLL_SECONDS)
                self.reload()

    def _read(self) -> tuple[bytes, ...]:
        found = [self._fixed] if self._fixed is not None else []
        found += [path.read_text().strip() for path in self._files()]
        good = []
        for key in found:
            problem = key_problem(key) if key else "it is empty"
            if problem:
                log.error("key_ignored", reason=problem)
            else:
                good.append(hashlib.sha256(key.encode()).digest())
        return tuple(sorted(set(good)))

    def _files(self) -> list[Path]:
        files = [self._file] if self._file is not None else []
        if self._directory is not None:
            # A mounted Secret keeps its versions beside the keys, in names with a leading dot.
            entries = sorted(self._directory.iterdir())
            files += [p for p in entries if not p.name.startswith(".") and p.is_file()]
        return files
