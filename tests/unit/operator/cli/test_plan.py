"""What ``plan`` reads and what it shows; and that it shows no secret."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from metis_operator.cli.changes import (
    Change,
    Field,
    as_json,
    compared,
    of_apply,
    short,
    trees,
    verdict,
)
from metis_operator.cli.exits import CommandError
from metis_operator.cli.layout import tree
from metis_operator.cli.plan import patch_of
from metis_operator.cli.terminal import Terminal
from metis_operator.core.objects import DEPLOYMENT, SECRET, SERVICE, Key


def test_settings_become_a_patch(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("app: {replicas: 1}\nollama: {keepAlive: 1h}\n")
    settings = ["app.replicas=2", "app.podLabels={team: search}", "ollama.keepAlive=null"]
    assert patch_of(settings, str(values)) == {
        "app": {"replicas": 2, "podLabels": {"team": "search"}},
        "ollama": {"keepAlive": None},
    }


@pytest.mark.parametrize("setting", ["app.replicas", "=2", "app..x=1", "a={", "--"])
def test_a_wrong_setting_is_named(setting: str) -> None:
    with pytest.raises(CommandError, match="--set"):
        patch_of([setting], None)


def workload(image: str, env: list[dict[str, Any]], digest: str = "1") -> dict[str, Any]:
    container = {"name": "app", "image": image, "env": env}
    return {
        "metadata": {
            "name": "demo-app",
            "resourceVersion": digest,
            "generation": int(digest),
            "managedFields": [{"manager": digest}],
            "annotations": {"metisrag.dev/digest": digest},
            "labels": {"app.kubernetes.io/component": "app"},
        },
        "spec": {"replicas": 1, "template": {"spec": {"containers": [container]}}},
        "status": {"readyReplicas": int(digest)},
    }


KEY = Key(DEPLOYMENT, "ns", "demo-app")


def test_bookkeeping_is_no_change() -> None:
    assert of_apply(KEY, workload("a", []), workload("a", [], digest="2")) is None


def test_a_changed_pod_template_means_new_pods() -> None:
    change = of_apply(KEY, workload("a", []), workload("b", [], digest="2"))
    assert change is not None
    assert change.restarts
    assert change.fields == [Field("spec.template.spec.containers[app].image", "a", "b")]
    assert verdict([change]) == "1 to change. New pods: app."


def test_what_comes_and_goes_is_told_leaf_by_leaf() -> None:
    before = {"spec": {"a": {"x": 1, "y": [1]}, "same": True}}
    after = {"spec": {"b": {"c": {"d": "e"}}, "same": True}}
    assert compared(before, after) == [
        Field("spec.a.x", 1, None),
        Field("spec.a.y", [1], None),
        Field("spec.b.c.d", None, "e"),
    ]


def test_no_secret_is_shown() -> None:
    before = workload("a", [{"name": "API_TOKEN", "value": "hush-1"}])
    after = workload(
        "a",
        [
            {"name": "API_TOKEN", "value": "hush-2"},
            {"name": "DB_PASSWORD", "value": "hush-3"},
            {"name": "KEY_FILE", "value": "/run/secrets/key"},
        ],
        digest="2",
    )
    change = of_apply(KEY, before, after)
    assert change is not None
    assert "hush" not in str(as_json(change))
    assert "/run/secrets/key" in str(as_json(change))
    spec = {"spec": {"mem0": {"settings": {"openai_api_key": "hush"}}}}
    assert compared({"spec": {}}, spec) == [
        Field("spec.mem0.settings.openai_api_key", None, "(hidden)")
    ]
    data = compared({"data": {"a": "aHVzaA=="}}, {"data": {"a": "aHVzaDI=", "b": "x"}}, secret=True)
    assert data == [
        Field("data.a", "(hidden)", "(another, hidden)"),
        Field("data.b", None, "(hidden)"),
    ]
    where = {"spec": {"auth": {"existingSecret": "mine"}}}
    assert compared({"spec": {}}, where)[0].after == "mine"


def test_an_absent_object_is_added() -> None:
    change = of_apply(Key(SECRET, "ns", "x"), None, {"data": {"k": "hush"}})
    assert change == Change(Key(SECRET, "ns", "x"), "add")


def test_the_verdict_counts() -> None:
    key = Key(SERVICE, "ns", "x")
    actions = ["add", "add", "remove", "conflict"]
    found = [Change(key, a) for a in actions]
    assert verdict(found) == "2 to add, 1 to remove, 1 in the way."
    assert verdict([]) == "Nothing would change."


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), ("", '""'), ({"a": [1, "b"]}, "{a: [1, b]}"), ("x" * 99, "x" * 59 + "…")],
)
def test_values_are_short(value: Any, text: str) -> None:
    assert short(value) == text


def test_what_is_in_the_way_says_why_below() -> None:
    change = Change(Key(SERVICE, "ns", "x"), "conflict", why="it belongs to someone")
    terminal = Terminal(io.StringIO(), io.StringIO())
    assert tree(trees([change]), terminal) == ["!  Service/x", "└─ it belongs to someone"]
