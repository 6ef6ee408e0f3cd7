"""What is brought from outside, from an instance in another namespace whose parts speak TLS."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.full
THEIRS, OURS = "elsewhere", "brought"
SERVERS = ("theirs-mem0", "theirs-metis-postgres", "theirs-mem0-postgres")


def secret(namespace: str, name: str, **entries: str) -> dict[str, Any]:
    """A Secret; ``_`` in the names of entries stands for a dot."""
    data = {key.replace("_", "."): value for key, value in entries.items()}
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": data}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for the Services of ``theirs`` that signs itself, and its key, in PEM."""
    folder = tmp_path_factory.mktemp("certificate")
    names = ",".join(f"DNS:{s},DNS:{s}.{THEIRS}" for s in SERVERS)
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=theirs"
    files = ["-keyout", str(folder / "key"), "-out", str(folder / "crt")]
    extension = ["-addext", f"subjectAltName={names}"]
    subprocess.run([*command.split(), *extension, *files], check=True, capture_output=True)
    return Path(folder / "crt").read_text(), Path(folder / "key").read_text()


@pytest.fixture(scope="module")
def theirs(cluster: Any, umbrella: str, certificate: tuple[str, str]) -> Iterator[str]:
    """An instance with TLS between its parts, open to other namespaces."""
    cluster.namespace(THEIRS)
    crt, key = certificate
    cluster.apply(secret(THEIRS, "parts-tls", tls_crt=crt, tls_key=key, ca_crt=crt))
    spec = {
        "tls": {"enabled": True, "existingSecret": "parts-tls"},
        "networkPolicy": {"enabled": False},
    }
    cluster.metisrag(THEIRS, "theirs", spec)
    cluster.wait_ready(THEIRS, "theirs")
    yield THEIRS
    cluster.drop_namespace(THEIRS)


def sql(cluster: Any, database: str, *commands: str, within: str = "postgres") -> str:
    """Commands for a PostgreSQL of ``theirs``, as its superuser; what the last one gave."""
    pod = f"theirs-{database}-0"
    output = ""
    for command in commands:
        output = cluster.kubectl(
            "exec", "-i", "-n", THEIRS, pod, "--", "psql", "-U", "postgres", "-d", within, "-XAtq",
            "-v", "ON_ERROR_STOP=1", stdin=command,  # which holds passwords, unlike command lines
        )  # fmt: skip
    return str(output).strip()


@pytest.fixture(scope="module")
def ours(cluster: Any, theirs: str, certificate: tuple[str, str]) -> Iterator[str]:
    """An instance whose databases and models are all ``theirs``."""
    cluster.namespace(OURS)
    for database, name in (("metis-postgres", "ours"), ("mem0-postgres", "ours_memory")):
        sql(
            cluster, database,
            f"CREATE ROLE {name} LOGIN PASSWORD 'only-for-this-test'", f"CREATE DATABASE {name}",
        )  # fmt: skip
        login = secret(OURS, name.replace("_", "-"), username=name, password="only-for-this-test")
        cluster.apply(login)
    cluster.apply(secret(OURS, "their-ca", ca_crt=certificate[0]))
    sql(cluster, "mem0-postgres", "ALTER DATABASE ours_memory OWNER TO ours_memory")

    def database(server: str, name: str) -> dict[str, Any]:
        url = f"postgresql://theirs-{server}.{THEIRS}:5432/{name}"
        external = {"url": url, "tls": {"mode": "verify-full", "caSecret": "their-ca"}}
        return {"external": external, "existingSecret": name.replace("_", "-")}

    models = {"url": f"http://theirs-ollama.{THEIRS}:11434/v1"}
    spec = {
        "models": {"openai": {"chat": models, "embedding": models}},
        "metisPostgres": database("metis-postgres", "ours"),
        "mem0Postgres": database("mem0-postgres", "ours_memory"),
    }
    cluster.metisrag(OURS, "ours", spec)
    yield OURS
    cluster.drop_namespace(OURS)


def over_tls(cluster: Any, database: str, user: str) -> list[str]:
    """Whether the sessions of a login are encrypted, each "t" or "f"."""
    query = (
        "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
        f" WHERE usename LIKE '{user}' AND client_addr IS NOT NULL"
    )
    return sql(cluster, database, query).split()


def test_the_parts_speak_tls_to_each_other(cluster: Any, theirs: str, ask: Any) -> None:
    with cluster.app(theirs, "theirs") as client:
        assert ask(client, "My secret word is heliotrope.")["answer"]
        health = client.get("/api/health").json()
        assert health["status"] == "ok", health
    for database, user in (("metis-postgres", "metis_app_%"), ("mem0-postgres", "mem0_app_%")):
        assert set(over_tls(cluster, database, user)) == {"t"}
    with pytest.raises(AssertionError):
        cluster.kubectl(
            "exec", "-n", theirs, "deploy/theirs-app", "--", "python", "-c",
            "import urllib.request as u; u.urlopen('http://theirs-mem0:8050/health', timeout=5)",
        )  # fmt: skip


def test_credentials_are_rotated_over_tls(cluster: Any, theirs: str, ask: Any) -> None:
    before = cluster.secret(theirs, "theirs-mem0-key"), cluster.secret(theirs, "theirs-metis-db")
    cluster.metis("rotate", "theirs", "--wait", "--timeout", "110", namespace=theirs)
    after = cluster.secret(theirs, "theirs-mem0-key"), cluster.secret(theirs, "theirs-metis-db")
    for old, new in zip(before, after, strict=True):
        assert old != new
    with cluster.app(theirs, "theirs") as client:
        assert ask(client, "Hello again.")["answer"]
        assert client.get("/api/health").json()["status"] == "ok"


def test_what_the_database_lacks_stands_on_the_resource(cluster: Any, ours: str) -> None:
    for server, database in (("metis-postgres", "ours"), ("mem0-postgres", "ours_memory")):
        wanted = f"in the database {database}, run: CREATE EXTENSION vector"
        cluster.wait_for(
            lambda wanted=wanted: wanted in str(cluster.conditions(ours, "ours")),
            120,
            lambda wanted=wanted: f"no {wanted!r}: {cluster.status(ours, 'ours')}",
        )
        sql(cluster, server, "CREATE EXTENSION vector", within=database)
    sql(cluster, "metis-postgres", "ALTER DATABASE ours OWNER TO ours")
    cluster.kubectl("delete", "pod", "-n", ours, "-l", "app.kubernetes.io/component=app")
    cluster.wait_ready(ours, "ours")


def test_nothing_of_what_is_brought_is_made(cluster: Any, ours: str) -> None:
    names = [c["name"] for c in cluster.wait_ready(ours, "ours")["components"]]
    assert sorted(names) == ["app", "mem0"]
    assert cluster.items("statefulset,pvc", "-n", ours) == []
    services = {o["metadata"]["name"] for o in cluster.items("service,networkpolicy", "-n", ours)}
    assert services == {"ours-app", "ours-mem0", "ours-test"}
    secrets = {o["metadata"]["name"] for o in cluster.items("secret", "-n", ours)}
    assert secrets == {"ours-auth", "ours-mem0-key", "ours", "ours-memory", "their-ca"}
    (rotated,) = cluster.status(ours, "ours")["rotation"]
    assert rotated["component"] == "mem0-key"


def test_it_answers_from_its_documents_and_remembers(
    cluster: Any, ours: str, ask: Any, upload: Any
) -> None:
    with cluster.app(ours, "ours") as client:
        upload(client)
        answer = ask(client, "My secret word is heliotrope. How many days of leave are there?")
        assert answer["answer"]
        assert answer["sources"]
        told = client.get("/api/health").json()["components"]["model-server"]["detail"]
        assert told.startswith("The model server: "), told
        cluster.wait_for(
            lambda: "heliotrope" in client.get("/api/memory").text,
            30,
            lambda: client.get("/api/memory").text,
        )
    assert set(over_tls(cluster, "metis-postgres", "ours")) == {"t"}
    assert set(over_tls(cluster, "mem0-postgres", "ours_memory")) == {"t"}


def test_the_command_line_knows_what_is_brought(cluster: Any, ours: str) -> None:
    told = cluster.metis("status", "ours", namespace=ours).stdout
    assert "postgres" not in told
    refused = cluster.metis("rotate", "ours", "--component", "metis-db", namespace=ours, code=64)
    assert "no metis-db of its own" in refused.stderr
    cluster.metis("rotate", "ours", "--wait", "--timeout", "100", namespace=ours)


def test_an_address_with_a_password_is_refused(cluster: Any, ours: str) -> None:
    url = "postgresql://ours:hush@theirs-metis-postgres/ours"
    with pytest.raises(AssertionError, match="the address may hold no login"):
        cluster.metisrag(ours, "nonsense", {"metisPostgres": {"external": {"url": url}}})


def test_the_memory_server_may_be_theirs_as_well(cluster: Any, ours: str, ask: Any) -> None:
    key = cluster.secret(THEIRS, "theirs-mem0-key")["current"]
    cluster.apply(secret(ours, "their-memory", api_key=key) | {"stringData": {"api-key": key}})
    memory = {"url": f"https://theirs-mem0.{THEIRS}:8050", "caSecret": "their-ca"}
    patch = {
        "mem0": {"external": memory, "existingSecret": "their-memory"},
        "mem0Postgres": None,
    }
    cluster.kubectl(
        "patch", "metisrag", "ours", "-n", ours, "--type=merge", "-p", json.dumps({"spec": patch})
    )
    status = cluster.wait_ready(ours, "ours")
    assert [c["name"] for c in status["components"]] == ["app"]
    assert cluster.get("deployment", "ours-mem0", "-n", ours) is None
    with cluster.app(ours, "ours") as client:
        ask(client, "My other secret word is periwinkle.")
        cluster.wait_for(
            lambda: "periwinkle" in client.get("/api/memory").text,
            30,
            lambda: client.get("/api/memory").text,
        )
