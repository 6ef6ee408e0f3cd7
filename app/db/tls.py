"""How connections to metis-postgres are secured: libpq's modes, for both drivers."""

from __future__ import annotations

import ssl
from typing import Any

from app.core.config import Settings
from app.errors import ConfigurationError


def for_psycopg(settings: Settings) -> dict[str, str]:
    """What libpq is told; nothing where the settings leave it to DATABASE_URL."""
    mode = settings.database_tls_mode
    if not mode:
        return {}
    if mode not in ("verify-ca", "verify-full"):
        return {"sslmode": mode}
    if settings.database_ca_file is not None:
        return {"sslmode": mode, "sslrootcert": str(settings.database_ca_file)}
    # libpq refuses the system's authorities together with the weaker check.
    return {"sslmode": "verify-full", "sslrootcert": "system"}


def for_asyncpg(settings: Settings) -> dict[str, Any]:
    """The same for asyncpg. Raises ConfigurationError when the authority's file is of no use."""
    mode = settings.database_tls_mode
    if not mode:
        return {}
    if mode in ("disable", "prefer"):
        return {"ssl": mode}
    if mode == "require":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return {"ssl": context}
    file = settings.database_ca_file
    try:
        context = ssl.create_default_context(cafile=None if file is None else str(file))
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"DATABASE_CA_FILE {file} holds no certificate that can be read "
            f"({error.strerror or error}): mount the authority's certificate there, in PEM"
        ) from error
    context.check_hostname = mode == "verify-full" or file is None
    return {"ssl": context}
