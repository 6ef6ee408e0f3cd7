"""Credentials are made once, kept, and seen by nobody."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.component.operator.world import World

NAMES = ["demo-auth", "demo-mem0-db", "demo-mem0-key", "demo-metis-db"]


def secrets(world: World) -> dict[str, dict[str, str]]:
    return {o["metadata"]["name"]: o.get("data", {}) for o in world.api.all("Secret", world.ns)}


def command(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "metis_operator", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
    )


def test_they_outlive_the_resource_and_serve_the_next(world: World) -> None:
    world.create()
    world.until_ready()
    before = secrets(world)
    assert sorted(before) == NAMES
    for name in NAMES:
        assert "ownerReferences" not in world.get("Secret", name)["metadata"]
    world.api.delete("MetisRAG", world.ns, "demo")
    for kind, child in world.children():
        world.api.delete(kind, world.ns, child["metadata"]["name"])
    world.create()
    world.until_ready()
    assert secrets(world) == before


def test_a_lost_one_is_made_again_and_a_lost_key_completed(
    world: World, wait: Callable[..., Any]
) -> None:
    world.create()
    world.until_ready()
    before = secrets(world)
    world.api.patch("Secret", world.ns, "demo-metis-db", {"data": {"password": None}})
    wait(lambda: "password" in secrets(world)["demo-metis-db"])
    after = secrets(world)["demo-metis-db"]
    assert after["superuser-password"] == before["demo-metis-db"]["superuser-password"]
    assert after["password"] != before["demo-metis-db"]["password"]
    world.api.delete("Secret", world.ns, "demo-mem0-key")
    wait(lambda: "demo-mem0-key" in secrets(world))


def test_a_value_changed_by_someone_is_theirs(world: World) -> None:
    world.create()
    world.until_ready()
    mine = base64.b64encode(b"mine").decode()
    world.api.patch("Secret", world.ns, "demo-mem0-key", {"data": {"current": mine}})
    world.look_again()
    assert secrets(world)["demo-mem0-key"] == {"current": mine}


def test_the_deletion_policy_ties_them_to_the_resource(
    world: World, wait: Callable[..., Any]
) -> None:
    uid = world.create({"deletionPolicy": "Delete"})["metadata"]["uid"]
    world.until_ready()

    def owners() -> list[list[str]]:
        return [
            [r["uid"] for r in world.get("Secret", n)["metadata"].get("ownerReferences", [])]
            for n in NAMES
        ]

    assert owners() == [[uid]] * 4
    retention = world.get("StatefulSet", "demo-ollama")["spec"][
        "persistentVolumeClaimRetentionPolicy"
    ]
    assert retention["whenDeleted"] == "Delete"
    values = secrets(world)
    world.change({"spec": {"deletionPolicy": "Retain"}})
    wait(lambda: owners() == [[]] * 4)
    assert secrets(world) == values


def test_without_authentication_there_is_no_key_to_make(world: World) -> None:
    world.create({"auth": {"mode": "none"}})
    world.until_ready()
    assert "demo-auth" not in secrets(world)


def test_no_value_is_told_anywhere(world: World) -> None:
    world.create()
    world.until_ready()
    values = {
        base64.b64decode(value).decode()
        for data in secrets(world).values()
        for key, value in data.items()
        if key not in ("username", "admin-user")
    }
    assert len(values) == 8
    told = [
        world.operator.log.read_text(),
        world.operator.ask("/metrics").text,
        str(world.resource()),
        str(world.api.all("Event", world.ns)),
        *(str(o) for _, o in world.children()),
    ]
    for value in values:
        assert not any(value in text for text in told)


def test_without_an_operator_a_command_makes_them(world: World) -> None:
    kubeconfig = str(world.operator.folder / "kubeconfig")
    arguments = ("credentials", "--instance", "solo", "--namespace", world.ns)
    first = command(*arguments, KUBECONFIG=kubeconfig)
    assert first.returncode == 0, first.stderr
    assert sorted(first.stdout.split()[::2]) == [
        f"Secret/{n.replace('demo', 'solo')}" for n in NAMES
    ]
    made = secrets(world)
    for data in made.values():
        for value in data.values():
            assert base64.b64decode(value).decode() not in first.stdout.split()
    second = command(*arguments, KUBECONFIG=kubeconfig)
    assert (second.returncode, second.stdout) == (0, "nothing was missing\n")
    assert secrets(world) == made


def test_a_command_that_fails_says_so_in_one_line(world: World) -> None:
    arguments = ("credentials", "--instance", "solo", "--namespace", "no-such-namespace")
    refused = command(*arguments, KUBECONFIG=str(world.operator.folder / "kubeconfig"))
    assert refused.returncode == 1
    assert "Cannot create Secret/solo-metis-db" in refused.stderr
    assert "not found" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    nowhere = command(*arguments, KUBECONFIG="/nowhere")
    assert nowhere.returncode == 1
    assert "No cluster to talk to" in nowhere.stderr
    assert "Traceback" not in nowhere.stderr
