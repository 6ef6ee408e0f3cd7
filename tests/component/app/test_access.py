"""Who may do what, and what is open to everybody."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx

GUARDED = [
    ("GET", "/api/me"),
    ("GET", "/api/models"),
    ("GET", "/api/documents"),
    ("POST", "/api/documents"),
    ("GET", "/api/documents/00000000-0000-0000-0000-000000000000"),
    ("GET", "/api/documents/00000000-0000-0000-0000-000000000000/file"),
    ("DELETE", "/api/documents/00000000-0000-0000-0000-000000000000"),
    ("POST", "/api/chat/query"),
    ("POST", "/api/chat/stream"),
    ("GET", "/api/chat/conversations"),
    ("GET", "/api/chat/conversations/00000000-0000-0000-0000-000000000000/messages"),
    ("DELETE", "/api/chat/conversations/00000000-0000-0000-0000-000000000000"),
    ("GET", "/api/memory"),
    ("DELETE", "/api/memory"),
    ("GET", "/api/memory/stats"),
    ("DELETE", "/api/memory/caches"),
    ("PUT", "/api/memory/preferences"),
]
OPEN = {
    "/api/health",
    "/api/ready",
    "/api/status/memory-key",
    "/api/status/database",
    "/api/status/embedding",
}


def test_everything_else_asks_for_a_key(with_keys: Any) -> None:
    with with_keys.client() as client:
        paths = client.get("/api/openapi.json").json()["paths"]
        known = {re.sub(r"\{\w+\}", "*", path) for path in paths}
        nobody = "00000000-0000-0000-0000-000000000000"
        assert {path.replace(nobody, "*") for _, path in GUARDED} == known - OPEN
        for method, path in GUARDED:
            for header in (None, "", "Bearer", "Bearer wrong", "Basic YW5u", "ann-key"):
                headers = {"Authorization": header} if header is not None else {}
                body = {"message": "?"} if method in ("POST", "PUT") else None
                response = client.request(method, path, headers=headers, json=body)
                assert response.status_code == 401, (method, path, header, response.text)
                assert response.json()["error"]["code"] == "unauthenticated"
                assert response.headers["www-authenticate"] == "Bearer"


def test_who_am_i(running: Any) -> None:
    with running.client() as client:
        assert client.get("/api/me").json() == {"user_id": "local", "role": "admin"}


def test_keys_name_users_and_change_without_a_restart(with_keys: Any, keys_file: Path) -> None:
    with with_keys.client("ann-key") as ann, with_keys.client("root-key") as root:
        assert ann.get("/api/me").json() == {"user_id": "ann", "role": "user"}
        assert root.get("/api/me").json() == {"user_id": "root", "role": "admin"}
        kept = [e for e in json.loads(keys_file.read_text())["keys"] if e["user"] != "ann"]
        keys_file.write_text(json.dumps({"keys": kept}))
        assert ann.get("/api/me").status_code == 401, "a revoked key is refused at once"
        assert root.get("/api/me").status_code == 200
        keys_file.write_text("{ half a fi")
        assert root.get("/api/me").status_code == 200, "a broken file locks nobody out"
        assert ann.get("/api/me").status_code == 401


def test_open_routes(with_keys: Any) -> None:
    with with_keys.client() as client:
        for path in ("/api/health", "/api/ready", "/metrics", "/", "/js/main.js", "/style.css"):
            assert client.get(path).status_code == 200, path


def test_the_page_allows_no_outside_and_no_inline_code(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert client.get("/js/main.js").headers["content-type"].startswith("text/javascript")


def test_errors_have_one_shape_and_a_request_id(client: httpx.Client) -> None:
    for method, path, status in (
        ("GET", "/api/nothing", 404),
        ("GET", "/nothing", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/js/%2e%2e/%2e%2e/main.py", 404),
        ("DELETE", "/api/health", 405),
        ("GET", "/api/documents/none", 404),
        ("GET", "/api/documents?limit=0", 422),
    ):
        response = client.request(method, path, headers={"X-Request-ID": "abc-1"})
        assert response.status_code == status, path
        assert set(response.json()["error"]) == {"code", "message", "field"}
        assert response.headers["x-request-id"] == "abc-1"
    long = client.get("/api/me", headers={"X-Request-ID": "x" * 200})
    assert len(long.headers["x-request-id"]) == 32
    big = client.post("/api/chat/query", content=b" " * (2**20 + 1))
    assert (big.status_code, big.json()["error"]["code"]) == (413, "too_large")
