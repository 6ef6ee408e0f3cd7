"""Liveness, readiness and metrics, with each thing the app needs taken away."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx
import psycopg
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.rag import health

Serve = Callable[..., AbstractContextManager[Any]]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask anew every time: the tests change the world faster than probes do."""
    monkeypatch.setattr(health, "FRESH", 0.0)


def components(client: httpx.Client) -> dict[str, str]:
    response = client.get("/api/health")
    assert response.status_code == 200
    return {name: c["status"] for name, c in response.json()["components"].items()}


def test_well(client: httpx.Client) -> None:
    body = client.get("/api/health").json()
    assert body["status"] == "ok"
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", body["version"])
    assert components(client) == {
        "database": "ok",
        "model-server": "ok",
        "models": "ok",
        "embedding": "ok",
        "mem0": "off",
    }
    ready = client.get("/api/ready")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "missing": {}})


def test_models(client: httpx.Client, scripted_ollama: Any) -> None:
    scripted_ollama.models.remove("chat-model")
    assert components(client)["models"] == "error"
    ready = client.get("/api/ready")
    assert ready.status_code == 503
    assert "chat-model" in ready.json()["missing"]["models"]
    scripted_ollama.down = True
    assert components(client) == {
        "database": "ok", "model-server": "error", "models": "error",
        "embedding": "ok", "mem0": "off",
    }  # fmt: skip
    scripted_ollama.down = False
    scripted_ollama.models.append("chat-model")
    assert client.get("/api/ready").status_code == 200


def test_mem0_away_is_told_but_needs_no_waiting(
    serve: Serve, app_settings: Callable[..., Any], free_port: Callable[[], int]
) -> None:
    settings = app_settings(use_mem0=True, mem0_endpoint=f"http://127.0.0.1:{free_port()}")
    with serve(settings) as running, running.client() as client:
        body = client.get("/api/health").json()
        assert body["status"] == "degraded"
        assert "does not answer" in body["components"]["mem0"]["detail"]
        assert client.get("/api/ready").status_code == 200
        answer = client.post("/api/chat/query", json={"message": "Hello?"})
        assert answer.status_code == 200
        assert answer.json()["memory"] == {"status": "degraded", "preferences": {}, "history": []}


def test_database_away(
    serve: Serve, app_settings: Callable[..., Any], free_port: Callable[[], int]
) -> None:
    settings = app_settings(database_url=f"postgresql://127.0.0.1:{free_port()}/metis")
    with serve(settings) as running, running.client() as client:
        assert components(client)["database"] == "error"
        ready = client.get("/api/ready")
        assert ready.status_code == 503
        assert "database" in ready.json()["missing"]
        for response in (
            client.get("/api/documents"),
            client.post("/api/documents", files=[("files", ("a.md", b"text"))]),
            client.post("/api/chat/query", json={"message": "Hello?"}),
            client.post("/api/chat/stream", json={"message": "Hello?"}),
        ):
            assert response.status_code == 503, response.text
            assert response.json()["error"]["code"] == "database_unavailable"
            assert response.headers["retry-after"]
            assert response.headers["x-request-id"]


def test_database_not_migrated(
    serve: Serve, app_settings: Callable[..., Any], postgres_dsn_factory: Callable[[str], str]
) -> None:
    settings = app_settings(database_url=postgres_dsn_factory("bare"))
    with serve(settings) as running, running.client() as client:
        detail = client.get("/api/ready").json()["missing"]["database"]
        assert "python -m app.prepare" in detail


def test_connections_cut_off_are_replaced(client: httpx.Client, running: Any) -> None:
    assert client.get("/api/documents").status_code == 200
    with psycopg.connect(running.settings.database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    assert client.get("/api/documents").status_code == 200


def test_metrics(client: httpx.Client) -> None:
    def value(name: str, **labels: str) -> float:
        text = client.get("/metrics").text
        samples = [s for f in text_string_to_metric_families(text) for s in f.samples]
        return sum(
            s.value for s in samples if s.name == name and labels.items() <= s.labels.items()
        )

    route = "/api/documents/{document_id}"
    before = value("metis_http_request_seconds_count", route=route, status="404")
    client.get("/api/documents/nobody-knows-this")
    client.get("/api/documents/nor-this")
    assert value("metis_http_request_seconds_count", route=route, status="404") == before + 2
    answers = value("metis_rag_answers_total", outcome="complete")
    client.post("/api/chat/query", json={"message": "Hello?"})
    assert value("metis_rag_answers_total", outcome="complete") == answers + 1
    assert value("metis_rag_stage_seconds_count", stage="first_token") > 0
    assert value("metis_database_pool_connections", state="limit") == 15
