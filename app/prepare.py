"""``python -m app.prepare``: wait for what the app needs and migrate its database.

Runs before the app, in an init container or by hand. What it waits for stands on stderr, at once
and then every ten seconds. The database is waited for as long as it takes; Mem0 for a minute,
because the app works without it. The model servers are not: the app runs without them, gets no
traffic, and says at /api/ready which model is missing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import httpx
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from app.errors import (
    AppError,
    ConfigurationError,
    DatabaseUnavailableError,
    EmbeddingChangeRefusedError,
)

if TYPE_CHECKING:
    from ssl import SSLContext

    from app.core.config import Settings

POLL_SECONDS = 0.5
SAY_EVERY = 10.0
MEM0_SECONDS = 60.0
REFUSED = 3
"""Exit status that the operator knows a refused change of the embedding model by."""


def main() -> int:
    """Prepare; 0 when the app may start.

    Otherwise 2 for settings that cannot work, REFUSED for another embedding model than that of
    the documents without REINDEX, 1 for anything else.
    """
    try:
        from app.core import config
        from app.core.trust import trust
        from app.db.migrate import migrate, newest_revision

        settings = config.SETTINGS
        config.refuse_to_start(settings)
        wait_for("metis-postgres", lambda: _database(lambda: migrate(settings)))
        say(f"metis-postgres: schema {newest_revision()}")
        refuse = partial(refuse_another_embedding_model, settings)
        wait_for("metis-postgres", lambda: _database(refuse))
        asked = partial(_answers, trusted=trust(settings))
        if settings.use_mem0:
            mem0 = f"{settings.mem0_endpoint}/ready"
            ready = wait_for("Mem0", partial(asked, mem0), MEM0_SECONDS)
            say("Mem0: ready" if ready else "Mem0: not ready; starting without memory")
    except ConfigurationError as error:
        say(error.message)
        return 2
    except EmbeddingChangeRefusedError as error:
        say(error.message)
        return REFUSED
    except AppError as error:
        say(error.message)
        return 1
    return 0


def wait_for(what: str, probe: Callable[[], str | None], limit: float | None = None) -> bool:
    """Call ``probe`` until it gives None; it gives the reason while it must go on.

    False when ``limit`` seconds passed first.
    """
    begun = time.monotonic()
    said_at, said = float("-inf"), ""
    while reason := probe():
        waited = time.monotonic() - begun
        if limit is not None and waited >= limit:
            return False
        if reason != said or time.monotonic() - said_at >= SAY_EVERY:
            say(f"waiting for {what} ({waited:.0f} s): {reason}")
            said_at, said = time.monotonic(), reason
        time.sleep(POLL_SECONDS)
    return True


def say(line: str) -> None:
    """Tell whoever watches."""
    print(f"metis: {line}", file=sys.stderr, flush=True)


def refuse_another_embedding_model(settings: Settings) -> None:
    """Raise EmbeddingChangeRefusedError where documents would be embedded anew unasked.

    Only the name is looked at here: the model may not be on the server yet.
    """
    from app.db.indexed import indexed_model
    from app.rag.index_change import Model, refusal
    from app.rag.models import embedding_name

    indexed = None if settings.reindex else indexed_model(settings)
    wanted = embedding_name(settings)
    if indexed is not None and indexed[0] != wanted:
        raise EmbeddingChangeRefusedError(refusal(Model(indexed[0]), Model(wanted)))


def _database(migrate: Callable[[], None]) -> str | None:
    try:
        migrate()
    except DatabaseUnavailableError as error:
        return error.message
    except CommandError as error:
        raise AppError(
            f"the database has a schema this version does not know ({error}); run a version at "
            "least as new as the one that wrote it"
        ) from error
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        reason = " ".join(str(error.orig).split())
        # Without a code no connection came about; classes 08, 28, 3D, 53, 57 pass when the server
        # has finished starting and the roles are made.
        if state is None or state[:2] in ("08", "28", "3D", "53", "57"):
            return reason
        cure = ""
        if state == "42501":  # of a database that somebody else made
            cure = "; the login needs the right to make tables there: make it the database's owner"
        raise AppError(f"the migration failed: {reason}{cure}") from error
    return None


def _answers(url: str, *, trusted: SSLContext) -> str | None:
    """None when ``url`` answers well."""
    try:
        response = httpx.get(url, timeout=3.0, trust_env=False, verify=trusted)
    except httpx.HTTPError as error:
        return f"{url}: {type(error).__name__}: {error}"
    return None if response.is_success else f"{url}: answers {response.status_code}"


if __name__ == "__main__":
    sys.exit(main())
