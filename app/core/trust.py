"""Whom the app trusts when it speaks HTTPS: the system's authorities and those mounted for it."""

from __future__ import annotations

import ssl

from app.core.config import Settings
from app.errors import ConfigurationError


def trust(settings: Settings) -> ssl.SSLContext:
    """The system's authorities, and those in the ``*.crt`` files of TLS_CA_DIR (PEM).

    Raises ConfigurationError for a file that holds no certificate.
    """
    context = ssl.create_default_context()
    if settings.tls_ca_dir is not None:
        for file in sorted(settings.tls_ca_dir.glob("*.crt")):
            try:
                context.load_verify_locations(cafile=str(file))
            except (OSError, ssl.SSLError) as error:
                raise ConfigurationError(
                    f"{file} holds no certificate that can be read ({error.strerror or error}): "
                    "put the authority's certificate there, in PEM"
                ) from error
    return context
