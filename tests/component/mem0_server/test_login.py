"""The database login is exchanged while the server works."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import make_url

from mem0_server.settings import login_fingerprint, read_together
from tests.component.mounted_secret import MountedSecret


@pytest.fixture
def secret(tmp_path: Path) -> MountedSecret:
    return MountedSecret(tmp_path / "db")


@pytest.fixture
def roles(dsn: str) -> Iterator[tuple[str, str]]:
    """Two login roles that act as the owner, as the chart's script makes them."""
    stem = f"mem0_{uuid4().hex[:8]}"
    names = f"{stem}_a", f"{stem}_b"
    with psycopg.connect(dsn, autocommit=True) as connection:
        owner = connection.execute("SELECT current_user").fetchone()
        assert owner is not None
        for role in names:
            connection.execute(f"CREATE ROLE {role} LOGIN")
            connection.execute(f"GRANT {owner[0]} TO {role}")
            connection.execute(f"ALTER ROLE {role} SET role = {owner[0]}")
        yield names
        for role in names:
            connection.execute(f"DROP ROLE {role}")


def test_a_change_under_load_fails_no_request_and_leaves_no_connection(
    dsn: str, roles: tuple[str, str], secret: MountedSecret, start: Any, new_settings: Any,
    scripted_ollama: Any, query: Callable[..., Any], wait: Callable[..., Any],
) -> None:  # fmt: skip
    first, second = roles
    secret.write(username=first, password="one")
    settings = new_settings(
        make_url(dsn).set(username=None, password=None).render_as_string(),
        scripted_ollama.url,
        database_user_file=secret.folder / "username",
        database_password_file=secret.folder / "password",
        database_pool_size=3,
    )
    server = start(settings)
    client = server.client
    client.put("/agents/helper", json={"name": "Helper", "persona": "kind"})
    client.put("/humans/ada", json={"name": "Ada"})
    archival = "/agents/helper/humans/ada/archival"
    client.post(archival, json={"kind": "note", "data": {"text": "tea at four"}})
    wait(lambda: client.get("/status").json()["backlog"] == 0, "the note to be indexed")
    stop, answers = threading.Event(), []

    def work(number: int) -> None:
        while not stop.is_set():
            if number % 2:
                path = "/agents/helper/humans/ada/recall"
                answers.append(client.post(path, json={"role": "user", "content": "hello"}))
            else:
                body = {"query": "tea", "kind": "note"}
                answers.append(client.post(f"{archival}/search", json=body))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    try:
        for name in (second, first, second):
            begun = len(answers)
            wait(lambda begun=begun: len(answers) > begun + 20, "work")
            secret.write(username=name, password="two")
            wanted = {
                "fingerprint": login_fingerprint({"user": name, "password": "two"}),
                "former_connections": 0,
            }
            wait(lambda w=wanted: client.get("/status").json()["database"] == w, "the change", 30)
            former = second if name == first else first
            users = query("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", former)
            assert users == [(0,)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {answer.status_code for answer in answers} <= {200, 201}, answers
    server.stop()


def test_a_refused_login_waits_for_the_new_one(
    dsn: str, roles: tuple[str, str], secret: MountedSecret, start: Any, new_settings: Any,
    query: Callable[..., Any],
) -> None:  # fmt: skip
    first, second = roles
    secret.write(username=first, password="one")
    settings = new_settings(
        make_url(dsn).set(username=None, password=None).render_as_string(),
        database_user_file=secret.folder / "username",
        database_password_file=secret.folder / "password",
    )
    query(f"ALTER ROLE {first} NOLOGIN")
    server = start(settings)
    timer = threading.Timer(0.5, lambda: secret.write(username=second, password="two"))
    timer.start()
    assert server.client.get("/ready").status_code == 200
    timer.join()
    server.stop()


def test_files_are_read_as_of_one_moment(
    secret: MountedSecret, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret.write(username="a", password="one")
    files = {"user": secret.folder / "username", "password": secret.folder / "password"}
    read, swapped = Path.read_text, []

    def read_and_swap(path: Path, *args: str, **kwargs: str) -> str:
        found = read(path, *args, **kwargs)
        if not swapped:
            swapped.append(True)
            secret.write(username="b", password="two")
        return found

    monkeypatch.setattr(Path, "read_text", read_and_swap)
    assert read_together(files) == {"user": "b", "password": "two"}
