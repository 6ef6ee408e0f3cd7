"""The installed system answers from the documents and remembers its user."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

QUESTIONS = yaml.safe_load(
    (Path(__file__).parents[1] / "data" / "questions.yaml").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("case", QUESTIONS, ids=lambda case: case["document"])
def test_citation_names_the_right_document_and_place(
    app: httpx.Client, ask: Any, case: dict[str, Any]
) -> None:
    body = ask(app, case["question"])
    assert body["answer"].strip()
    first = body["sources"][0]
    assert first["document_name"] == case["document"], body["sources"]
    if "page" in case:
        assert first["page"] == case["page"]
    if "section" in case:
        assert case["section"] in (first["section"] or "")


def test_remembers_across_conversations_and_after_every_pod_was_deleted(
    cluster: Any, umbrella: str, app: httpx.Client, ask: Any
) -> None:
    preferences = {"style": "short", "language": "English"}
    assert app.put("/api/memory/preferences", json=preferences).status_code == 200
    ask(app, "My favourite city is Lisbon.")

    def remembered(body: dict[str, Any]) -> None:
        memory = body["memory"]
        assert memory["status"] == "ok", memory
        assert preferences.items() <= memory["preferences"].items()
        assert any("Lisbon" in m["content"] for m in memory["history"]), memory["history"]

    remembered(ask(app, "Which city do I like?"))

    before = {p["metadata"]["uid"] for p in cluster.items("pods", "-n", umbrella)}
    cluster.kubectl("delete", "pods", "--all", "-n", umbrella, "--wait", timeout=180)
    cluster.wait_ready(umbrella, "metis")
    after = {p["metadata"]["uid"] for p in cluster.items("pods", "-n", umbrella)}
    assert before.isdisjoint(after)

    with cluster.app(umbrella, "metis") as reopened:
        remembered(ask(reopened, "Which city do I like?"))
        names = {d["name"] for d in reopened.get("/api/documents").json()["documents"]}
        assert {case["document"] for case in QUESTIONS} <= names
