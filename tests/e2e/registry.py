"""A registry of models in a pod, as Ollama's own answers: manifests, and blobs in ranges.

``python registry.py FOLDER HOST PORT [RATE]`` serves a store of Ollama's. Blobs are handed
out by a redirect to HOST, another name of this same server, as Ollama wants it.
"""

from __future__ import annotations

import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PIECE = 1 << 16
_PATH = re.compile(r"/v2/([^/]+)/([^/]+)/(manifests|blobs|content)/([^/]+)")


class Registry(ThreadingHTTPServer):
    """Serves ``store``; ``rate`` bytes a second and connection, or as fast as it can."""

    daemon_threads = True

    def __init__(self, store: Path, host: str, port: int, rate: float) -> None:
        super().__init__(("", port), Handler)
        self.store, self.host, self.port, self.rate = store, host, port, rate

    def file(self, namespace: str, model: str, kind: str, reference: str) -> Path:
        """Where a manifest or a blob is."""
        if kind == "manifests":
            return self.store / "manifests/registry.ollama.ai" / namespace / model / reference
        return self.store / "blobs" / reference.replace(":", "-")


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: Registry

    def log_message(self, *_: Any) -> None:
        return

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        found = _PATH.fullmatch(self.path)
        file = self.server.file(*found.groups()) if found else None
        if file is None or not file.is_file():
            self.head(404, {"Content-Length": "0"})
        elif body and found and found[3] == "blobs":
            path = self.path.replace("/blobs/", "/content/")
            place = f"http://{self.server.host}:{self.server.port}{path}"
            self.head(307, {"Location": place, "Content-Length": "0"})
        else:
            self.content(file, body=body)

    def head(self, code: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def content(self, file: Path, *, body: bool) -> None:
        size = file.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        first, last = (int(asked[1]), int(asked[2] or size - 1)) if asked else (0, size - 1)
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        headers = {
            "Content-Type": kind if "manifests" in self.path else "application/octet-stream",
            "Content-Length": str(last - first + 1),
        }
        if asked:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self.head(206 if asked else 200, headers)
        with file.open("rb") as stream:
            stream.seek(first)
            left = last - first + 1 if body else 0
            while left:
                piece = stream.read(min(left, PIECE))
                self.wfile.write(piece)
                left -= len(piece)
                if self.server.rate:
                    time.sleep(len(piece) / self.server.rate)


if __name__ == "__main__":
    folder, host, port, *rate = sys.argv[1:]
    Registry(Path(folder), host, int(port), float(rate[0]) if rate else 0.0).serve_forever()
