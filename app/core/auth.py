"""Who speaks: a bearer key names a user through a file that holds the hashes of the keys.

The file is JSON: ``{"keys": [{"user": "ann", "role": "user", "sha256": "<hex of the key>"}]}``.
It is looked at again on every request (one ``stat``) and read again when it changed, so a key can
be added or revoked without a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from app.core.logging import get_logger
from app.errors import ConfigurationError, UnauthenticatedError

Role = Literal["user", "admin"]
_SHA256 = re.compile(r"[0-9a-f]{64}")

log = get_logger(__name__)


@dataclass(frozen=True)
class User:
    """Who makes a request."""

    id: str
    role: Role

    @property
    def is_admin(self) -> bool:
        """Whether this user may change what others made."""
        return self.role == "admin"


LOCAL_USER = User("local", "admin")
"""The single user of ``AUTH_MODE=none``."""


class Authenticator(Protocol):
    """Finds the user for an ``Authorization`` header."""

    def authenticate(self, header: str | None) -> User:
        """The user; raises UnauthenticatedError."""
        ...


class SingleUser:
    """``AUTH_MODE=none``: everybody is the local user."""

    def authenticate(self, header: str | None) -> User:
        """The local user, whatever the header says."""
        return LOCAL_USER


class KeyRing:
    """``AUTH_MODE=keys``: the users of a mounted file of key hashes."""

    def __init__(self, path: Path) -> None:
        """Read the file; raises ConfigurationError when it cannot be used."""
        self._path = path
        self._seen = self._state()
        self._keys = parse_keys(self._read(), str(path))

    def authenticate(self, header: str | None) -> User:
        """The user whose key the header bears; raises UnauthenticatedError.

        Every key is compared, in constant time, whether or not one matched before.
        """
        scheme, _, key = (header or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise UnauthenticatedError(
                "this needs a key: send the header 'Authorization: Bearer <your key>'"
            )
        given = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).hexdigest()
        found: User | None = None
        for digest, user in self._current():
            if hmac.compare_digest(digest, given):
                found = user
        if found is None:
            raise UnauthenticatedError(
                "this key is not known here; ask the administrator of this instance for one"
            )
        return found

    def _current(self) -> list[tuple[str, User]]:
        state = self._state()
        if state != self._seen:
            try:
                self._keys = parse_keys(self._read(), str(self._path))
                log.info("auth_keys_loaded", file=str(self._path), keys=len(self._keys))
            except ConfigurationError as error:
                # A half-written file must not lock everybody out; the next change is read again.
                log.warning("auth_keys_unusable", reason=error.message)
            self._seen = state
        return self._keys

    def _state(self) -> tuple[int, ...] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)

    def _read(self) -> str:
        try:
            return self._path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"AUTH_KEYS_FILE {self._path} cannot be read ({error}); mount the Secret with "
                "keys.json there, or set AUTH_MODE=none for a single local user"
            ) from error


def parse_keys(text: str, origin: str) -> list[tuple[str, User]]:
    """Hash and user of each key; raises ConfigurationError that names the entry at fault."""
    try:
        entries: Any = json.loads(text)["keys"]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f'{origin} must be JSON like {{"keys": [{{"user", "role", "sha256"}}]}}'
        ) from error
    if not isinstance(entries, list):
        raise ConfigurationError(f"{origin}: 'keys' must be a list")
    keys = []
    for number, entry in enumerate(entries):
        where = f"{origin}: keys[{number}]"
        if not isinstance(entry, dict):
            raise ConfigurationError(f"{where} must be an object")
        user, role, digest = entry.get("user"), entry.get("role", "user"), entry.get("sha256")
        if not isinstance(user, str) or not user.strip():
            raise ConfigurationError(f"{where}.user must be a name")
        if role not in ("user", "admin"):
            raise ConfigurationError(f"{where}.role must be 'user' or 'admin'")
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest.lower()):
            raise ConfigurationError(f"{where}.sha256 must be the SHA-256 of the key in hex")
        keys.append((digest.lower(), User(user, role)))
    return keys
