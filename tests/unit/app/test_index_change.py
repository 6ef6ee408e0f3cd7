"""What is decided of an index when the embedding model changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.rag.index_change import (
    Abandon,
    Begin,
    GoOn,
    Index,
    Live,
    Model,
    Refused,
    Settled,
    decide,
    differs,
)
from app.rag.reindexing import told

EARLY = datetime(2026, 1, 1, tzinfo=UTC)
LATER, LATEST = EARLY + timedelta(hours=1), EARLY + timedelta(hours=2)
SMALL, LARGE, OTHER = Model("small", "a", 384), Model("large", "b", 768), Model("other", "c", 384)


def index(model: Model, state: str = "active", made: datetime = EARLY, **more: object) -> Index:
    return Index(1 if state == "active" else 2, model, state, made, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("live", "wanted", "reindex", "step"),
    [
        (Live(), SMALL, False, Settled()),
        (Live(index(SMALL)), SMALL, False, Settled()),
        (Live(index(SMALL)), SMALL, True, Settled()),
        (Live(index(SMALL)), LARGE, True, Begin()),
        (Live(index(SMALL)), Model("small", "z", 384), True, Begin()),
        (Live(index(SMALL)), Model("small", "a", 768), True, Begin()),
        (
            Live(index(SMALL), index(LARGE, "building")), LARGE, True,
            GoOn(index(LARGE, "building")),
        ),
        (
            Live(index(SMALL), index(LARGE, "building")), OTHER, True,
            Abandon(index(LARGE, "building")),
        ),
        (
            Live(index(SMALL), index(LARGE, "building")), SMALL, True,
            Abandon(index(LARGE, "building")),
        ),
        (
            Live(index(SMALL), index(LARGE, "building")), LARGE, False,
            Abandon(index(LARGE, "building")),
        ),
    ],
)  # fmt: skip
def test_step(live: Live, wanted: Model, reindex: bool, step: object) -> None:
    assert decide(live, wanted, reindex=reindex, started=LATER) == step


def test_an_older_configuration_undoes_nothing() -> None:
    """A replica that is about to be replaced has seen the newer one's index come into being."""
    newer = index(LARGE, "building", LATEST)
    for wanted, reindex in ((SMALL, False), (SMALL, True), (OTHER, True)):
        found = decide(Live(index(SMALL), newer), wanted, reindex=reindex, started=LATER)
        assert found == Settled(), (wanted, reindex)
    switched = Live(index(LARGE, made=LATEST))
    assert decide(switched, SMALL, reindex=True, started=LATER) == Settled()
    assert isinstance(decide(switched, SMALL, reindex=False, started=LATER), Refused)


def test_a_refusal_says_what_to_write() -> None:
    found = decide(Live(index(SMALL)), Model("large"), reindex=False, started=LATER)
    assert isinstance(found, Refused)
    for words in ("small", "large", "models.reindex to true", "models.embedding", "REINDEX=true"):
        assert words in found.message
    length = decide(Live(index(SMALL)), Model("small", "a", 768), reindex=False, started=LATER)
    assert isinstance(length, Refused)
    assert "384" in length.message
    assert "768" in length.message


def test_new_weights_under_the_same_name_are_told_of() -> None:
    found = decide(Live(index(SMALL)), Model("small", "z", 384), reindex=False, started=LATER)
    assert isinstance(found, Settled)
    assert "models.reindex to true" in found.note


def test_what_is_not_known_is_no_difference() -> None:
    assert not differs(SMALL, Model("small"))
    assert not differs(Model("small", None, 384), SMALL)
    assert differs(SMALL, Model("small", "a", 385))


def test_progress_is_told() -> None:
    building = index(LARGE, "building", done=50, total=200, rate=10.0)
    live = Live(index(SMALL), building)
    found = told(live, GoOn(building), "")
    assert (found["state"], found["model"]) == ("reindexing", "small")
    assert found["reindex"] == {
        "model": "large", "dimensions": 768, "done": 50, "total": 200, "percent": 25,
        "rate": 10.0, "eta_seconds": 15, "message": "",
    }  # fmt: skip
    waits = told(live, GoOn(building), "Ollama does not have the model large")
    assert waits["message"] == "Ollama does not have the model large"
    refused = told(Live(index(SMALL)), Refused("no"), "trouble")
    assert (refused["state"], refused["message"], refused["reindex"]) == ("refused", "no", None)
    assert told(Live(), Settled(), "")["state"] == "empty"
