"""A door that speaks TLS before the PostgreSQL of the tests, which is built without it."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_TLS_REQUEST = (80877103).to_bytes(4, "big")
LOOPBACK = "IP:127.0.0.1,DNS:localhost"


def self_signed(folder: Path, name: str, names: str = LOOPBACK) -> tuple[Path, Path]:
    """A certificate for ``names`` (of 127.0.0.1) that signs itself, and its key."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2"
    options = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={names}"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *options, *files], check=True, capture_output=True)
    return certificate, key


@dataclass
class Door:
    """Where it is, and what the connections to it spoke: plain, tls, or distrust."""

    url: str
    certificate: Path
    spoke: list[str] = field(default_factory=list)


@contextmanager
def tls_door(dsn: str, certificate: Path, key: Path) -> Iterator[Door]:
    """Stands open before the database at ``dsn``, a Unix socket; plain connections are closed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    parts = urlsplit(dsn)
    listener = socket.create_server(("127.0.0.1", 0))
    user = f"{parts.username}@" if parts.username else ""
    door = Door(
        f"postgresql://{user}127.0.0.1:{listener.getsockname()[1]}{parts.path}", certificate
    )
    target = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"

    def serve(client: socket.socket) -> None:
        if client.recv(8)[4:] != _TLS_REQUEST:
            door.spoke.append("plain")
            client.close()
            return
        client.sendall(b"S")
        try:
            secure = context.wrap_socket(client, server_side=True)
        except OSError:
            door.spoke.append("distrust")
            return
        door.spoke.append("tls")
        database = socket.socket(socket.AF_UNIX)
        database.connect(target)
        for pair in ((secure, database), (database, secure)):
            threading.Thread(target=_pump, args=pair, daemon=True).start()

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield door
    finally:
        listener.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        target.close()
