"""Another embedding model in a MetisRAG, as the API server sees it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.component.operator.world import World


def patch(world: World, models: dict[str, Any]) -> httpx.Response:
    return world.api.http.patch(
        world.api.path("MetisRAG", world.ns, "demo"),
        json={"spec": {"models": models}},
        headers={"Content-Type": "application/merge-patch+json"},
    )


def test_another_model_is_refused_at_once_and_says_what_to_write(world: World) -> None:
    world.create({"models": {"embedding": "all-minilm"}})
    for models in ({"embedding": "other"}, {"embedding": "other", "reindex": False}):
        answer = patch(world, models)
        assert answer.status_code == 422, answer.text
        assert "set reindex: true beside it" in answer.json()["message"]
    assert patch(world, {"chat": "other"}).status_code == 200


@pytest.mark.parametrize("before", [False, True])
def test_it_is_admitted_where_it_is_asked_for(world: World, before: bool) -> None:
    world.create({"models": {"embedding": "all-minilm", "reindex": before}})
    models = {"embedding": "other"} | ({} if before else {"reindex": True})
    assert patch(world, models).status_code == 200
    assert patch(world, {"reindex": False}).status_code == 200, "the model is the same"
    assert patch(world, {"embedding": "all-minilm"}).status_code == 422
