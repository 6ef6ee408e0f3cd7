"""HTTPS with a mounted certificate, and TLS to the database."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from mem0_server.errors import SettingsError
from mem0_server.serve import Certificate, configuration
from mem0_server.settings import load_settings

KEY = "mk_component-test-key-1234567890"


def self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    command = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={name} -addext {names}"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    return certificate, key


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
def tls_database(tmp_path: Path, dsn: str) -> Iterator[tuple[str, Path, list[str]]]:
    """The test's database behind TLS, the certificate to trust, and what connections spoke.

    The PostgreSQL of the tests is built without TLS, so a door before it speaks it.
    """
    certificate, key = self_signed(tmp_path, "database")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    parts = urlsplit(dsn)
    folder = parse_qs(parts.query)["host"][0]
    door = socket.create_server(("127.0.0.1", 0))
    spoke: list[str] = []

    def pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            target.close()

    def serve(client: socket.socket) -> None:
        if client.recv(8)[4:] != (80877103).to_bytes(4, "big"):
            spoke.append("plain")
            client.close()
            return
        client.sendall(b"S")
        try:
            secure = context.wrap_socket(client, server_side=True)
        except OSError:
            spoke.append("distrust")
            return
        spoke.append("tls")
        database = socket.socket(socket.AF_UNIX)
        database.connect(f"{folder}/.s.PGSQL.5432")
        for pair in ((secure, database), (database, secure)):
            threading.Thread(target=pump, args=pair, daemon=True).start()

    def accept() -> None:
        while True:
            try:
                client, _ = door.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    url = f"postgresql://postgres@127.0.0.1:{door.getsockname()[1]}{parts.path}"
    yield url, certificate, spoke
    door.close()


def test_the_database_is_spoken_to_in_tls_and_must_be_who_it_says(
    tls_database: tuple[str, Path, list[str]],
    tmp_path: Path,
    scripted_ollama: Any,
    new_settings: Callable[..., Any],
    start: Callable[[Any], Any],
) -> None:
    url, certificate, spoke = tls_database
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
    assert set(spoke) == {"tls"}
    stranger, _ = self_signed(tmp_path, "stranger")
    doubting = start(new_settings(url, database_ca_file=stranger)).client
    refused = doubting.get("/humans/ada")
    assert refused.status_code == 503
    assert "certificate verify failed" in refused.json()["error"]["message"]
