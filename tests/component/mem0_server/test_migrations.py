"""From any released schema to this one, by several replicas at once, with what was stored."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, make_url

from mem0_server.errors import MigrationError
from mem0_server.migrate import alembic_config, connect, current_version, migrate
from mem0_server.schema import SCHEMA_VERSION

KEY = "mk_component-test-key-1234567890"
RELEASED = [one.revision for one in ScriptDirectory.from_config(alembic_config()).walk_revisions()]
MEMORY = "11111111-1111-4111-8111-111111111111"
# What a server of 0001 leaves; later schemas hold it, too.
STORED = f"""
INSERT INTO agents (id, name, persona) VALUES ('helper', 'Helper', 'kind');
INSERT INTO humans (id, name) VALUES ('ada', 'Ada');
INSERT INTO recall (agent_id, human_id, role, content, idempotency_key)
    VALUES ('helper', 'ada', 'user', 'first', 'k'), ('helper', 'ada', 'user', 'second', NULL);
INSERT INTO archival (agent_id, human_id, kind, data)
    VALUES ('helper', 'ada', 'note', '{{"tea": "green"}}');
INSERT INTO archival (id, human_id, run_id, kind, data)
    VALUES ('{MEMORY}', 'ada', 'r', 'mem0', '{{"memory": "drinks tea", "role": "user"}}');
INSERT INTO archival_keys VALUES ('ada', 'helper', 'k', '\\x00', gen_random_uuid());
INSERT INTO mem0_messages (scope, human_id, role, content)
    VALUES ('["ada", null, "r"]', 'ada', 'user', 'tea please');
INSERT INTO index_collections (name, model, dimensions) VALUES ('index_gone', 'gone', 3);
INSERT INTO index_jobs (collection, record_id) SELECT 'index_gone', id FROM archival;
"""


def prepare(dsn: str, **environment: str) -> subprocess.Popen[str]:
    env = {**os.environ, "DATABASE_URL": dsn, "MEM0_ADMIN_API_KEY": KEY, **environment}
    return subprocess.Popen(
        [sys.executable, "-m", "mem0_server.prepare"], env=env, stderr=subprocess.PIPE, text=True
    )


def alembic(settings: Any, change: Callable[..., None], revision: str) -> None:
    engine = create_engine("postgresql+psycopg://", creator=lambda: connect(settings))
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        change(config, revision)
    engine.dispose()


@pytest.mark.parametrize("released", RELEASED)
def test_what_was_stored_under_a_released_schema_is_served(
    released: str,
    postgres_dsn_factory: Callable[[str], str],
    new_settings: Callable[..., Any],
    start: Callable[[Any], Any],
) -> None:
    dsn = postgres_dsn_factory(f"from_{released}")
    settings = new_settings(dsn)
    alembic(settings, command.upgrade, released)
    with psycopg.connect(dsn) as connection:
        connection.execute(STORED)
    at_once = [prepare(dsn, EMBEDDING_MODEL="gone") for _ in range(2)]
    assert [process.wait(60) for process in at_once] == [0, 0]
    client = start(settings).client
    base = "/agents/helper/humans/ada"
    assert client.get("/ready").json()["schema_version"] == SCHEMA_VERSION
    said = client.get(f"{base}/recall").json()["messages"]
    assert [message["content"] for message in said] == ["first", "second"]
    again = {"role": "user", "content": "first"}
    repeated = client.post(f"{base}/recall", json=again, headers={"Idempotency-Key": "k"})
    assert (repeated.status_code, repeated.json()) == (200, said[0])
    assert client.get(f"{base}/archival?kind=note").json()["records"][0]["data"] == {"tea": "green"}
    assert client.get(f"/memories/{MEMORY}").json()["memory"] == "drinks tea"
    if released == "0001":
        (added,) = client.get(f"/memories/{MEMORY}/history").json()
        assert (added["event"], added["new_memory"]) == ("ADD", "drinks tea")
    assert client.get("/status").json()["backlog"] == 2
    assert client.delete("/memories", params={"run_id": "r"}).status_code == 200
    with psycopg.connect(dsn) as connection:
        assert connection.execute("SELECT count(*) FROM mem0_messages").fetchone() == (0,)
    assert client.delete("/humans/ada").json() == {"messages": 2, "records": 1}


def test_one_step_back_keeps_what_was_stored(
    postgres_dsn_factory: Callable[[str], str], new_settings: Callable[..., Any]
) -> None:
    dsn = postgres_dsn_factory("back")
    settings = new_settings(dsn)
    migrate(settings, lambda _: None)
    with psycopg.connect(dsn) as connection:
        connection.execute(STORED)
    alembic(settings, command.downgrade, "-1")
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT content FROM recall ORDER BY id").fetchall()
        assert rows == [("first",), ("second",)]
    assert migrate(settings, lambda _: None) == SCHEMA_VERSION


def test_replicas_migrate_at_once_again_and_back(
    postgres_dsn_factory: Callable[[str], str], new_settings: Callable[..., Any]
) -> None:
    dsn = postgres_dsn_factory("migrate")
    at_once = [prepare(dsn) for _ in range(3)]
    texts = [process.communicate(timeout=30)[1] for process in at_once]
    assert [process.returncode for process in at_once] == [0, 0, 0], texts
    assert sum("migrating" in text and "migrated in" in text for text in texts) == 1
    said: list[str] = []
    settings = new_settings(dsn)
    assert migrate(settings, said.append) == SCHEMA_VERSION
    assert said == [f"schema {SCHEMA_VERSION} is up to date"]
    with connect(settings) as connection:
        assert current_version(connection) == SCHEMA_VERSION
    alembic(settings, command.downgrade, "base")
    with connect(settings) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert tables.fetchall() == [("alembic_version",)]
    assert migrate(settings, said.append) == SCHEMA_VERSION


def test_prepare_waits_for_the_database(
    postgres_dsn_factory: Callable[[str], str], tmp_path: Path
) -> None:
    """The credentials come late, as with a Secret that is mounted while we wait."""
    dsn = postgres_dsn_factory("late")
    user = tmp_path / "username"
    process = prepare(dsn.replace("postgres@", ""), DATABASE_USER_FILE=str(user))
    assert process.stderr is not None
    first = process.stderr.readline()
    assert "waiting for the database" in first
    user.write_text("postgres\n")
    rest = process.communicate(timeout=30)[1]
    assert process.returncode == 0, rest
    assert "migrated in" in rest


def test_what_a_brought_database_lacks_is_asked_for_with_the_command(
    postgres_server: str, new_settings: Callable[..., Any]
) -> None:
    """A database made by somebody else, with a login that may do little at first."""
    name = f"brought_{uuid4().hex[:8]}"
    url = make_url(postgres_server).set(database=name)
    settings = new_settings(url.set(username=name).render_as_string(hide_password=False))

    def as_superuser(dsn: str, *commands: str) -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            for command in commands:
                connection.execute(command)

    as_superuser(postgres_server, f"CREATE ROLE {name} LOGIN", f"CREATE DATABASE {name}")
    within = url.render_as_string(hide_password=False)
    with pytest.raises(MigrationError, match=f"database {name}, run: CREATE EXTENSION vector"):
        migrate(settings, print)
    as_superuser(within, "CREATE EXTENSION vector")
    with pytest.raises(MigrationError, match="make it the database's owner"):
        migrate(settings, print)
    as_superuser(within, f"ALTER DATABASE {name} OWNER TO {name}")
    assert migrate(settings, print) == SCHEMA_VERSION
    as_superuser(within, "UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")
    with pytest.raises(MigrationError, match=r"0\.7\.4, and 0\.8 or newer is needed"):
        migrate(settings, print)
