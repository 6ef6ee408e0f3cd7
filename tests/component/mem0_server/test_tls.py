"""HTTPS with a mounted certificate, and TLS to the database."""

import asyncio
import base64
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from metis_operator.core import names
from metis_operator.witness import Witnesses

from mem0_server.database import Database
from mem0_server.errors import DatabaseUnavailableError, SettingsError
from mem0_server.metrics import Metrics
from mem0_server.migrate import connect
from mem0_server.serve import Certificate, configuration
from mem0_server.settings import load_settings
from tests.component.tls_door import Door, self_signed, tls_door

KEY = "mk_component-test-key-1234567890"


def test_https_goes_over_to_a_new_certificate(
    tmp_path: Path, dsn: str, free_port: Callable[[], int], wait: Callable[..., Any]
) -> None:
    first, second = self_signed(tmp_path, "first"), self_signed(tmp_path, "second")
    served = tmp_path / "tls.crt", tmp_path / "tls.key"
    for source, target in zip(first, served, strict=True):
        shutil.copy(source, target)
    port = free_port()
    env = {
        **os.environ,
        "DATABASE_URL": dsn,
        "MEM0_ADMIN_API_KEY": KEY,
        "OLLAMA_BASE_URL": "http://127.0.0.1:9",
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "TLS_CERT_FILE": str(served[0]),
        "TLS_KEY_FILE": str(served[1]),
        "DRAIN_DELAY": "0",
    }

    def trusts(certificate: Path) -> bool:
        context = ssl.create_default_context(cafile=str(certificate))
        url = f"https://127.0.0.1:{port}"
        try:
            with httpx.Client(base_url=url, verify=context, headers={"X-API-Key": KEY}) as client:
                return client.put("/humans/ada", json={"name": "Ada"}).status_code == 200
        except httpx.ConnectError:
            return False

    process = subprocess.Popen([sys.executable, "-m", "mem0_server"], env=env)
    try:
        wait(lambda: trusts(first[0]), "the server", 60)
        assert not trusts(second[0])
        for source, target in zip(second, served, strict=True):
            shutil.copy(source, target)
        wait(lambda: trusts(second[0]), "the new certificate", 60)
    finally:
        process.terminate()
        assert process.wait(30) == 0


def test_a_certificate_without_its_key_ends_the_start(
    tmp_path: Path, dsn: str, new_settings: Callable[..., Any]
) -> None:
    certificate, key = self_signed(tmp_path, "one")
    _, other = self_signed(tmp_path, "other")
    with pytest.raises(SettingsError, match="cannot be used"):
        configuration(
            None,  # type: ignore[arg-type]
            new_settings(dsn, tls_cert_file=certificate, tls_key_file=other),
        )
    given = {"database_url": dsn, "mem0_admin_api_key": KEY}
    with pytest.raises(SettingsError, match="go together"):
        load_settings(**given, tls_cert_file=certificate)
    with pytest.raises(SettingsError, match="there is no file"):
        load_settings(**given, database_ca_file=tmp_path / "nothing")
    config = configuration(
        None,  # type: ignore[arg-type]
        new_settings(dsn, tls_cert_file=certificate, tls_key_file=key),
    )
    watched = Certificate(config)
    certificate.write_text("no certificate")
    watched.look()  # changes nothing, ends nothing


@pytest.fixture
def door(tmp_path: Path, dsn: str) -> Iterator[Door]:
    """The test's database behind TLS."""
    with tls_door(dsn, *self_signed(tmp_path, "database")) as door:
        yield door


def test_the_database_is_spoken_to_in_tls_and_must_be_who_it_says(
    door: Door,
    tmp_path: Path,
    scripted_ollama: Any,
    new_settings: Callable[..., Any],
    start: Callable[[Any], Any],
) -> None:
    url, certificate = door.url, door.certificate
    env = {**os.environ, "DATABASE_URL": url, "MEM0_ADMIN_API_KEY": KEY}
    env["DATABASE_CA_FILE"] = str(certificate)
    prepared = subprocess.run(
        [sys.executable, "-m", "mem0_server", "prepare"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert prepared.returncode == 0, prepared.stderr
    trusting = new_settings(url, scripted_ollama.url, database_ca_file=certificate)
    client = start(trusting).client
    client.put("/humans/ada", json={})
    client.post("/memories", json={"messages": "green tea", "user_id": "ada", "infer": False})
    found = client.post("/search", json={"query": "tea", "user_id": "ada"}).json()["results"]
    assert [one["memory"] for one in found] == ["green tea"]
    assert set(door.spoke) == {"tls"}
    stranger, _ = self_signed(tmp_path, "stranger")
    doubting = start(new_settings(url, database_ca_file=stranger)).client
    refused = doubting.get("/humans/ada")
    assert refused.status_code == 503
    assert "certificate verify failed" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("mode", "trusted", "spoken"),
    [
        ("require", False, "tls"),
        ("verify-ca", True, "tls"),
        ("verify-full", True, "distrust"),
        ("verify-full", False, "distrust"),
        ("disable", False, "plain"),
    ],
)
def test_each_mode_asks_for_what_its_name_says(
    tmp_path: Path,
    dsn: str,
    new_settings: Callable[..., Any],
    mode: str,
    trusted: bool,
    spoken: str,
) -> None:
    """The certificate is one of another host."""
    certificate, key = self_signed(tmp_path, "elsewhere", "DNS:elsewhere.example")
    with tls_door(dsn, certificate, key) as door:
        file = certificate if trusted else None
        settings = new_settings(door.url, database_tls_mode=mode, database_ca_file=file)

        async def ask() -> None:
            database = Database(settings, Metrics())
            await database.open()
            try:
                async with database.use("test") as connection:
                    assert await connection.fetchval("SELECT 1") == 1
            finally:
                await database.close()

        def ask_psycopg() -> None:
            with connect(settings) as connection:
                connection.execute("SELECT 1")

        for attempt in (lambda: asyncio.run(ask()), ask_psycopg):
            door.spoke.clear()
            if spoken == "tls":
                attempt()
            else:
                with pytest.raises((DatabaseUnavailableError, psycopg.OperationalError)):
                    attempt()
            if spoken == "distrust":  # one looks at the name during the handshake, one after it
                assert "plain" not in door.spoke
            else:
                assert set(door.spoke) == {spoken}


def test_an_authority_without_a_mode_that_asks_for_it_is_refused(
    tmp_path: Path, dsn: str, new_settings: Callable[..., Any]
) -> None:
    certificate, _ = self_signed(tmp_path, "one")
    with pytest.raises(ValueError, match="of use only with DATABASE_TLS_MODE verify-full"):
        new_settings(dsn, database_ca_file=certificate, database_tls_mode="require")


async def test_the_operator_knows_a_server_by_its_service_s_name(
    tmp_path: Path, dsn: str, new_settings: Callable[..., Any], start: Callable[[Any], Any]
) -> None:
    """It asks a pod by its address, and shows its keys to no other."""
    certificate, key = self_signed(tmp_path, "mem0", "DNS:demo-mem0")
    stranger, _ = self_signed(tmp_path, "stranger", "DNS:demo-mem0")
    server = start(new_settings(dsn, tls_cert_file=certificate, tls_key_file=key))
    secrets = {"right": certificate, "wrong": stranger}

    async def read(namespace: str, name: str) -> dict[str, Any] | None:
        assert namespace == "team"
        if name not in secrets:
            return None
        return {"data": {"ca.crt": base64.b64encode(secrets[name].read_bytes()).decode()}}

    def pod(secret: str, instance: str = "demo") -> dict[str, Any]:
        port = urlsplit(server.url).port
        return {
            "metadata": {
                "name": "demo-mem0-0",
                "namespace": "team",
                "labels": names.selector_labels(instance, "mem0"),
            },
            "spec": {
                "containers": [
                    {
                        "ports": [{"name": "http", "containerPort": port}],
                        "readinessProbe": {"httpGet": {"path": "/ready", "scheme": "HTTPS"}},
                    }
                ],
                "volumes": [{"name": "tls", "secret": {"secretName": secret}}],
            },
            "status": {"podIP": "127.0.0.1"},
        }

    witnesses = Witnesses(read)
    try:
        (seen,) = await witnesses.checkers([pod("right")], [KEY], None)
        assert (len(seen.accepts or ()), seen.trouble) == (1, "")
        for doubtful in (pod("wrong"), pod("gone"), pod("right", instance="other")):
            (seen,) = await witnesses.checkers([doubtful], [KEY], None)
            assert (seen.accepts, seen.trouble) == (None, "does not answer")
    finally:
        await witnesses.close()
