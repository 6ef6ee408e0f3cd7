"""The check of `helm test` against a real app, database and Mem0; the model alone is scripted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from metis_operator.check import run
from metis_operator.core.check import USER, CheckFailedError, document

KEY = "key-of-the-check"


@pytest.fixture
def checked(
    serve: Callable[[Any], AbstractContextManager[Any]],
    app_settings: Callable[..., Any],
    mem0: str,
    mem0_key: str,
    keys_file: Path,
) -> Iterator[Callable[..., Any]]:
    """``with checked(**settings) as app``: an app that knows the user of checks."""
    entries = json.loads(keys_file.read_text())["keys"]
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    entries.append({"user": USER, "role": "user", "sha256": digest})
    keys_file.write_text(json.dumps({"keys": entries}))

    def start(**overrides: Any) -> AbstractContextManager[Any]:
        plain = {
            "use_mem0": True,
            "mem0_endpoint": mem0,
            "mem0_api_key": mem0_key,
            "auth_mode": "keys",
            "auth_keys_file": keys_file,
        }
        return serve(app_settings(**{**plain, **overrides}))

    return start


def check(app: Any, key: str | None = KEY, *, mark: str = "a1b2c3d4", limit: float = 20) -> str:
    said: list[str] = []
    run(app.url, key, mark, limit=limit, say=said.append)
    return "\n".join(said)


def test_a_healthy_instance_passes_and_keeps_nothing_of_it(
    checked: Any, documents: Callable[..., Any]
) -> None:
    with checked() as app, app.client(KEY) as client, app.client("ann-key") as ann:
        assert ann.post("/api/documents", files=documents()).status_code == 201
        before = ann.get("/api/documents").json()
        said = check(app)
        for step in ("ready", "ingest", "retrieve", "cite", "remember", "recall", "clean up"):
            assert f"{step}: " in said
        assert ann.get("/api/documents").json() == before
        assert client.get("/api/chat/conversations").json() == {"conversations": []}
        memory = client.get("/api/memory").json()
        assert (memory["history"], memory["preferences"], memory["interactions"]) == ([], {}, [])
        assert check(app, mark="e5f6a7b8")  # once more


def test_what_a_killed_check_left_behind_is_taken_away(checked: Any) -> None:
    with checked() as app, app.client(KEY) as client, app.client("ann-key") as ann:
        name, text = document("01234567")
        for who in (client, ann):
            files = [("files", (f"of-{who is ann}-{name}", b"x" + text.encode()))]
            assert who.post("/api/documents", files=files).status_code == 201
        left = [("files", (name, text.encode()))]
        assert client.post("/api/documents", files=left).status_code == 201
        client.post("/api/chat/query", json={"message": "Anyone there?"})
        check(app)
        names = {d["name"] for d in ann.get("/api/documents").json()["documents"]}
        assert names == {f"of-False-{name}", f"of-True-{name}"}, "only what is surely its own goes"
        assert client.get("/api/chat/conversations").json() == {"conversations": []}


def test_a_dead_memory_server_fails_it_and_the_document_goes_all_the_same(
    checked: Any, free_port: Callable[[], int]
) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    with checked(mem0_endpoint=nowhere) as app, app.client(KEY) as client:
        with pytest.raises(CheckFailedError, match=r"^remember: the memory server has not taken"):
            check(app, limit=1)
        assert client.get("/api/documents").json() == {"documents": []}
        assert client.get("/api/chat/conversations").json() == {"conversations": []}


def test_a_model_server_that_refuses_fails_it_by_name(checked: Any, scripted_ollama: Any) -> None:
    with checked() as app:
        scripted_ollama.models.remove("embed-model")
        try:
            with pytest.raises(CheckFailedError, match=r"^ready: the app waits for .*embed-model"):
                check(app, limit=1)
        finally:
            scripted_ollama.models.append("embed-model")


def test_a_key_that_is_not_known_is_told(checked: Any) -> None:
    with checked() as app, pytest.raises(CheckFailedError, match=r"^sign in: .* 401"):
        check(app, "another")


def test_nobody_else_s_memory_is_touched(checked: Any) -> None:
    with checked() as app, app.client("ben-key") as ben:
        assert ben.put("/api/memory/preferences", json={"style": "short"}).status_code == 200
        said = check(app, "ben-key")
        assert "remember, recall: not checked" in said
        assert ben.get("/api/memory").json()["preferences"] == {"style": "short"}
        assert ben.get("/api/documents").json() == {"documents": []}
        assert ben.delete("/api/memory").is_success  # Others' tests know this user, too.


def test_switched_off_memory_is_not_checked(checked: Any) -> None:
    with checked(use_mem0=False) as app:
        assert "switched off" in check(app)


def test_an_app_that_is_not_there_is_told(free_port: Callable[[], int]) -> None:
    with pytest.raises(CheckFailedError, match=r"^ready: the app waits for it does not answer"):
        run(f"http://127.0.0.1:{free_port()}", None, "0", limit=0.2, say=str)
