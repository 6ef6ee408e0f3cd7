"""PostgreSQL, an Ollama, the Mem0 server and the app, started in order and ended in reverse."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from app.dev.children import Child
from app.dev.models import Models
from app.dev.postgres import Postgres
from app.dev.servers import PREPARE_SECONDS, Server, mem0_server, rag_app

ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Folder:
    """What a run keeps, and where; ``root`` may be thrown away as a whole."""

    root: Path

    @property
    def logs(self) -> Path:
        """One file a program."""
        return self.root / "logs"

    @property
    def admin_key(self) -> Path:
        """The key that the page asks for."""
        return self.root / "keys" / "admin-key"

    @property
    def user_keys(self) -> Path:
        """The hashes of all users' keys, as the app reads them."""
        return self.root / "keys" / "keys.json"

    @property
    def mem0_keys(self) -> Path:
        """The folder of the Mem0 keys, as a Secret is mounted."""
        return self.root / "keys" / "mem0"

    def make(self) -> None:
        """Make what is missing: folders, and random keys that stay as long as the data."""
        self.logs.mkdir(parents=True, exist_ok=True)
        self.mem0_keys.mkdir(parents=True, exist_ok=True)
        self.admin_key.parent.chmod(0o700)
        _keep(self.mem0_keys / "current", f"mk_{secrets.token_urlsafe(32)}")
        key = _keep(self.admin_key, secrets.token_urlsafe(24))
        digest = hashlib.sha256(key.encode()).hexdigest()
        _keep(
            self.user_keys,
            json.dumps({"keys": [{"user": ADMIN, "role": "admin", "sha256": digest}]}),
        )


@dataclass(slots=True)
class System:
    """A running system; :meth:`stop` ends every part that was started, however far it came."""

    folder: Folder
    durable: bool
    _stack: ExitStack = field(default_factory=ExitStack)
    children: list[Child] = field(default_factory=list)

    def start(
        self, models: Models, app_port: int, mem0_port: int, say: Callable[[str], None]
    ) -> tuple[Postgres, Server, Server]:
        """Start all but Ollama; returns database, Mem0 server and app once all are ready.

        Raises LocalRunError naming the part that does not come up.
        """
        self.folder.make()
        logs = self.folder.logs
        say("PostgreSQL")
        data = self.folder.root / "postgres"
        database = Postgres(data, logs / "postgres.log", durable=self.durable)
        self._stack.callback(database.stop)
        database.start()
        names = (models.chat, models.embedding)
        mem0 = mem0_server(
            mem0_port,
            logs / "mem0.log",
            dsn=database.database("mem0"),
            keys=self.folder.mem0_keys,
            scratch=self.folder.root / "mem0",
            ollama_url=models.url,
            models=names,
        )
        app = rag_app(
            app_port,
            logs / "app.log",
            dsn=database.database("metis"),
            AUTH_MODE="keys",
            AUTH_KEYS_FILE=str(self.folder.user_keys.absolute()),
            USE_MEM0="true",
            MEM0_ENDPOINT=mem0.url,
            MEM0_API_KEY="",
            MEM0_API_KEY_DIR=str(self.folder.mem0_keys.absolute()),
            UPLOAD_DIR=str(self.folder.root / "uploads"),
            ollama_url=models.url,
            models=names,
        )
        say("Mem0 server and app: prepare, migrate, start")
        # As their init containers do: at once; the app's waits for a Mem0 that answers.
        preparing = {server.module: server.preparing() for server in (mem0, app)}
        for child in preparing.values():
            self._stack.callback(child.stop)
        for server in (mem0, app):
            preparing[server.module].finish(PREPARE_SECONDS)
            self._stack.callback(server.stop)
            server.begin()
        for server in (mem0, app):
            server.wait()
        running = (database.child, mem0.child, app.child, models.child)
        self.children = [child for child in running if child is not None]
        return database, mem0, app

    def ended(self) -> Child | None:
        """A part that ended by itself, if one did."""
        return next((child for child in self.children if child.status is not None), None)

    def own(self, end: Callable[[], object]) -> None:
        """Have :meth:`stop` call ``end`` too, after all that is started later."""
        self._stack.callback(end)

    def stop(self) -> None:
        """End everything, the last one started first."""
        self._stack.close()


def _keep(file: Path, content: str) -> str:
    """The content of a file, which only we may read; ``content`` when there is none yet."""
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(content, encoding="utf-8")
    return file.read_text(encoding="utf-8")
