"""Keys, bad input, limits, and what the server tells of itself."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

RECALL = "/agents/helper/humans/ada/recall"
ARCHIVAL = "/agents/helper/humans/ada/archival"


def test_only_health_is_open(server: Any) -> None:
    with httpx.Client(base_url=server.url) as stranger:
        for path in ("/health", "/ready", "/metrics"):
            assert stranger.get(path).status_code == 200
        for path in ("/status", "/agents/helper", "/openapi.json", "/memories", "/nothing"):
            missing = stranger.get(path)
            assert (missing.status_code, missing.json()["error"]["code"]) == (401, "missing_key")
            wrong = stranger.get(path, headers={"X-API-Key": "mk_wrong-key-1234567890"})
            assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "unknown_key")
        text = stranger.get("/metrics").text
    assert 'mem0_unauthorized_total{reason="missing"} 5.0' in text
    assert 'mem0_unauthorized_total{reason="unknown"} 5.0' in text


def test_keys_rotate_while_the_server_runs(
    dsn: str,
    tmp_path: Path,
    new_settings: Callable[..., Any],
    start: Callable[[Any], Any],
    wait: Callable[..., Any],
) -> None:
    old, new = "mk_old-key-of-the-test-000", "mk_new-key-of-the-test-111"
    mount = tmp_path / "keys"

    def publish(version: str, **keys: str) -> None:
        """Swap the files as a kubelet does: a new directory, then one rename."""
        directory = mount / f"..{version}"
        directory.mkdir(parents=True)
        for name, key in keys.items():
            (directory / name).write_text(key)
            if not (mount / name).is_symlink():
                (mount / name).symlink_to(Path("..data") / name)
        (mount / "..tmp").symlink_to(directory.name)
        (mount / "..tmp").replace(mount / "..data")
        for link in mount.iterdir():
            if not link.name.startswith("..") and link.name not in keys:
                link.unlink()

    publish("1", current=old)
    server = start(new_settings(dsn, mem0_api_key_dir=mount))

    def accepted(key: str) -> bool:
        return server.client.get("/status", headers={"X-API-Key": key}).status_code == 200

    assert accepted(old)
    assert not accepted(new)
    publish("2", current=new, previous=old)
    wait(lambda: accepted(new), "the new key", 3)
    assert accepted(old)
    status = server.client.get("/status", headers={"X-API-Key": new}).json()
    prints = {hashlib.sha256(key.encode()).hexdigest()[:12] for key in (old, new)}
    assert set(status["accepted_keys"]) == prints
    assert status["key_idle_seconds"] == {}, "to ask for the status is not to use a key"
    server.client.get("/humans/nobody", headers={"X-API-Key": new})
    status = server.client.get("/status", headers={"X-API-Key": new}).json()
    assert list(status["key_idle_seconds"]) == [hashlib.sha256(new.encode()).hexdigest()[:12]]
    publish("3", current=new)
    wait(lambda: not accepted(old), "the end of the old key", 3)
    assert accepted(new)
    refused = server.client.get("/status", headers={"X-API-Key": old})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "revoked_key")
    assert 'mem0_unauthorized_total{reason="revoked"}' in server.client.get("/metrics").text


def test_bad_input_names_the_field(client: httpx.Client) -> None:
    cases: list[tuple[str, str, Any, str]] = [
        ("POST", RECALL, {"role": "robot", "content": "x"}, "role"),
        ("POST", RECALL, {"role": "user"}, "content"),
        ("POST", RECALL, {"role": "user", "content": "x", "more": 1}, "more"),
        ("POST", RECALL, {"role": "user", "content": "a\x00b"}, "content"),
        ("GET", f"{RECALL}?limit=0", None, "limit"),
        ("GET", f"{RECALL}?limit=many", None, "limit"),
        ("POST", ARCHIVAL, {"kind": "k", "data": [1]}, "data"),
        ("POST", ARCHIVAL, {"kind": "k", "data": {"a": "\x00"}}, "data"),
        ("POST", ARCHIVAL, {"kind": "", "data": {}}, "kind"),
        ("POST", f"{ARCHIVAL}/search", {"limit": 0}, "limit"),
        ("PUT", "/humans/%00", {"name": "x"}, "human_id"),
        ("PUT", "/humans/%ff", {"name": "x"}, "human_id"),
        ("PUT", f"/humans/{'x' * 201}", {"name": "x"}, "human_id"),
        ("POST", "/memories", {"messages": "x"}, "user_id"),
        (
            "POST",
            "/memories",
            {"messages": "x", "user_id": "ada", "expiration_date": "2030-01-01"},
            "expiration_date",
        ),
        ("POST", "/search", {"query": "x", "filters": {"user_id": {"in": []}}}, "filters.user_id"),
    ]
    for method, path, body, field in cases:
        answer = client.request(method, path, json=body)
        assert answer.status_code == 422, (path, body, answer.text)
        error = answer.json()["error"]
        assert (error["code"], error["field"]) == ("invalid_input", field), (path, body)


def test_text_that_is_no_json(client: httpx.Client) -> None:
    for content in (b"{", b'{"role": "user", "content": NaN}', b"\xff\xfe"):
        answer = client.post(RECALL, content=content, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422)
        assert "error" in answer.json()
    surrogate = b'{"role": "user", "content": "\\ud800"}'
    answer = client.post(RECALL, content=surrogate, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["field"]) == (422, "content")


def test_a_body_has_a_cap(client: httpx.Client) -> None:
    fits = client.post(RECALL, json={"role": "user", "content": "x" * 1_000_000})
    assert fits.status_code == 201
    body = json.dumps({"role": "user", "content": "x" * 1_100_000}).encode()
    declared = client.post(RECALL, content=body)
    pieces = (body[start : start + 65536] for start in range(0, len(body), 65536))
    streamed = client.post(RECALL, content=pieces)
    for answer in (declared, streamed):
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert client.get("/agents/helper").status_code == 200


def test_errors_and_answers_carry_the_request_id(client: httpx.Client) -> None:
    given = client.get("/agents/nobody", headers={"X-Request-ID": "my-id.1"})
    assert given.headers["x-request-id"] == "my-id.1"
    made = client.get("/health", headers={"X-Request-ID": "bad id"})
    assert len(made.headers["x-request-id"]) == 32
    wrong_method = client.patch("/agents/helper")
    assert (wrong_method.status_code, wrong_method.json()["error"]["code"]) == (
        405,
        "method_not_allowed",
    )


def test_metrics_count_by_route_and_never_name_people(client: httpx.Client) -> None:
    client.post(RECALL, json={"role": "user", "content": "x"})
    client.get("/agents/secret-person")
    text = client.get("/metrics").text
    route = "/agents/{agent_id}/humans/{human_id}/recall"
    assert f'mem0_http_requests_total{{method="POST",route="{route}",status="201"}} 1.0' in text
    assert 'route="/agents/{agent_id}",status="404"' in text
    assert 'mem0_database_connections{pool="records",state="max"} 10.0' in text
    assert 'mem0_database_connections{pool="index",state="max"} 4.0' in text
    assert 'mem0_database_seconds_count{work="recall_append"} 1.0' in text
    assert "mem0_index_backlog" in text
    assert "secret-person" not in text


def test_openapi_types_every_body(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert len(document["paths"]) >= 13
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            where = f"{method} {path}"
            keyed = path not in ("/health", "/ready", "/metrics")
            assert bool(operation.get("security")) == keyed, where
            if "requestBody" in operation:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                assert "$ref" in schema, where
                body = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
                assert any("examples" in one for one in body["properties"].values()), where
            if keyed:
                problem = operation["responses"]["401"]["content"]["application/json"]["schema"]
                assert problem["$ref"].endswith("/ProblemBody"), where
