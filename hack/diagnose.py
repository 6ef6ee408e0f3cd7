"""From the last lines of a failed program's log to what a person can do about it."""

from __future__ import annotations

import re

_CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"no space left on device|disk quota exceeded",
        "The disk is full. Free some space (`docker system prune` removes unused images; "
        "`~/.cache/metis-rag` may be deleted), then run it again.",
    ),
    (
        r"x509:|certificate verify failed|CERTIFICATE_VERIFY_FAILED|invalid peer certificate",
        "A server's TLS certificate is not trusted. Behind a proxy that inspects TLS, install its "
        "certificate in the system's store (`update-ca-certificates`), then run it again.",
    ),
    (
        r"no such host|name resolution|name or service not known|could not resolve"
        r"|failed to lookup address|dial tcp|i/o timeout|connection refused|connection reset"
        r"|tls handshake timeout|network is unreachable|failed to fetch|unable to connect to"
        r"|proxyconnect|toomanyrequests|error sending request",
        "A package or image registry could not be reached. Check the network and proxy settings; "
        "METIS_REGISTRY=online|offline overrides the detection of image registries. "
        "A re-run goes on where this one stopped.",
    ),
    (
        r"permission denied.*docker|docker.*permission denied",
        "Your user may not talk to the Docker engine: add it to the `docker` group and log in "
        "again, or run this as root.",
    ),
    (
        r"cannot connect to the docker daemon|error during connect",
        "The Docker engine stopped answering. Run it again: it is started again where possible.",
    ),
    (
        r"port is already allocated|address already in use",
        "A port is taken by another program. Stop that program or choose another port "
        "(`make up PORT=8001`), then run it again.",
    ),
    (
        r"signal: killed|\bKilled\b|out of memory|cannot allocate memory",
        "The machine ran out of memory. Close other programs, then run it again.",
    ),
)


def advice(log_tail: str) -> str | None:
    """What to do about the failure that the log shows, or None when its cause is not known."""
    for pattern, todo in _CAUSES:
        if re.search(pattern, log_tail, re.IGNORECASE):
            return todo
    return None
