"""Credentials rotate on a real API server; nobody is refused, whatever happens to the operator."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from metis_operator.cli.exits import Exit
from metis_operator.cluster import connect
from metis_operator.core import rotation as core
from metis_operator.core import slots
from metis_operator.core.schedule import Rules
from metis_operator.standalone import RotationWaitsError

from tests.component.operator.harness import eventually
from tests.component.operator.rotating import PURPOSES, Stage, a_demo, ask, rotation, turn
from tests.component.operator.test_cli import Cli, kubeconfig
from tests.component.operator.world import World


async def test_every_credential_rotates_and_nobody_is_refused(stage: Stage, config: Any) -> None:
    before = {p: stage.secret(p) for p in PURPOSES}
    async with connect(config) as cluster:
        assert await turn(cluster, stage, *PURPOSES, token="t1") == sorted(PURPOSES)
        assert await turn(cluster, stage, *PURPOSES, token="t1") == []
    for purpose in PURPOSES:
        after = stage.secret(purpose)
        assert after.keys() == before[purpose].keys()
        changed = {k for k in after if after[k] != before[purpose][k]}
        assert changed == ({"current"} if purpose == "mem0-key" else {"username", "password"})
    assert stage.checks > 20
    assert stage.refused == []
    old = before["mem0-key"]["current"]
    assert not any(p.accepts(old) for p in stage.pods if p.component == "mem0")
    assert set(stage.logins) == {"metis_app_b", "mem0_app_b"}
    assert eventually(lambda: not stage.api.all("Job", stage.ns))


async def test_a_pod_that_never_confirms_stops_it_before_the_revocation(
    stage: Stage, config: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "PATIENCE", 1.0)
    deaf = await asyncio.to_thread(lambda: stage.add("app", deaf=True))
    async with connect(config) as cluster:
        for purpose in ("mem0-key", "metis-db"):
            with pytest.raises(RotationWaitsError, match=deaf.name):
                await turn(cluster, stage, purpose, token="t1", limit=5.0)
        key = stage.secret("mem0-key")
        assert key.keys() == {"current", "previous"}
        for mem0 in (p for p in stage.pods if p.component == "mem0"):
            assert mem0.accepts(key["current"])
            assert mem0.accepts(key["previous"])
        # One at a time: the login waits until the key is done.
        assert stage.secret("metis-db").keys() == {"username", "password", "superuser-password"}
        await asyncio.to_thread(stage.remove, deaf)
        assert await turn(cluster, stage, token="t1") == ["mem0-key"]
    assert stage.refused == []
    assert stage.secret("mem0-key").keys() == {"current"}


async def test_a_leaked_key_is_revoked_without_waiting(stage: Stage, config: Any) -> None:
    await asyncio.to_thread(lambda: stage.add("app", deaf=True))
    old = {p: stage.secret(p) for p in PURPOSES}
    async with connect(config) as cluster:
        moved = await turn(cluster, stage, "mem0-key", "metis-db", token="t1", hurry=True)
    assert moved == ["mem0-key", "metis-db"]
    assert not any(
        p.accepts(old["mem0-key"]["current"]) for p in stage.pods if p.component == "mem0"
    )
    assert old["metis-db"]["username"] not in stage.logins


async def test_what_is_due_is_rotated_in_its_window_only(stage: Stage, config: Any) -> None:
    key = stage.secret("mem0-key")
    past = {"metadata": {"annotations": {slots.ROTATED: "2020-01-01T00:00:00Z"}}}
    stage.api.patch("Secret", stage.ns, "solo-mem0-key", past)
    hour = 86400.0 * 10000
    async with connect(config) as cluster:
        rules = {"mem0-key": Rules(0.0), "mem0-db": Rules(30 * 86400.0)}
        assert await turn(cluster, stage, token="", rules=rules) == []
        assert stage.secret("mem0-key") == key
        rules = {"mem0-key": Rules(30 * 86400.0), "metis-db": Rules(hour)}
        assert await turn(cluster, stage, token="", rules=rules) == ["mem0-key"]


async def test_a_secret_of_the_user_s_is_followed_and_never_written(
    stage: Stage, config: Any
) -> None:
    def mine(name: str, entry: str, value: str) -> dict[str, Any]:
        data = {entry: base64.b64encode(value.encode()).decode()}
        return {"metadata": {"name": name}, "data": data}

    names = {"mem0-key": ("my-key", "api-key"), "metis-db": ("my-login", "password")}
    follows = {purpose: name for purpose, (name, _) in names.items()}
    for number, value in enumerate(("the-first-value-of-mine", "the-second-value-of-mine")):
        for name, entry in names.values():
            body = mine(name, entry, value)
            if number:
                stage.api.patch("Secret", stage.ns, name, body)
            else:
                stage.api.create("Secret", stage.ns, body)
        versions = {n: stage.api.get("Secret", stage.ns, n) for n, _ in names.values()}
        async with connect(config) as cluster:
            assert await turn(cluster, stage, token="", follows=follows) == sorted(names)
            assert await turn(cluster, stage, *names, token="x", follows=follows) == []
        assert stage.secret("mem0-key") == {"current": value}
        assert stage.secret("metis-db")["password"] == value
        assert versions == {n: stage.api.get("Secret", stage.ns, n) for n, _ in names.values()}
    assert stage.refused == []


def test_an_annotation_rotates_and_the_status_tells(
    world: World, tmp_path: Path, wait: Callable[..., Any]
) -> None:
    with a_demo(world, tmp_path, {}) as stage:
        first = wait(lambda: rotation(world, "mem0-key"))
        assert first["phase"] == "Idle"
        assert first["next"] > first["since"]
        old = {p: stage.secret(p) for p in PURPOSES}
        ask(world, "one", *PURPOSES)

        def done() -> bool:
            states = [rotation(world, p) for p in PURPOSES]
            assert all(s["phase"] == "Idle" for s in states), states
            return all(s.get("last", {}).get("outcome") == "Succeeded" for s in states)

        wait(done, timeout=90)
        assert rotation(world, "mem0-key")["current"] != first["current"]
        assert stage.refused == []
        reasons = [reason for _, reason in world.events()]
        for reason in (
            "RotationStarted", "RotationSwitching", "RotationRevoking", "RotationFinished",
        ):  # fmt: skip
            assert reasons.count(reason) == 3
        metric = world.operator.metric
        for purpose in PURPOSES:
            labels = f'component="{purpose}",outcome="succeeded"'
            assert metric(f"metis_operator_rotations_total{{{labels}}}") >= 1
            for phase in ("Preparing", "Switching", "Revoking"):
                labels = f'component="{purpose}",phase="{phase}"'
                assert metric(f"metis_operator_rotation_phase_seconds_count{{{labels}}}") >= 1
        age = metric('metis_operator_credential_age_seconds{component="mem0-key",instance="demo"')
        assert 0 <= age < 90
        before = world.writes()
        world.look_again()
        assert world.writes() == before
        told = [
            world.operator.log.read_text(),
            world.operator.ask("/metrics").text,
            str(world.resource()),
            str(world.api.all("Event", world.ns)),
            str(world.api.all("Pod", world.ns)),
            str(world.api.all("Job", world.ns)),
        ]
        for data in (*old.values(), *(stage.secret(p) for p in PURPOSES)):
            for key, value in data.items():
                if key != "username":
                    assert not any(value in text for text in told), key


def test_a_killed_operator_goes_on_and_a_deaf_pod_is_named(
    world: World, tmp_path: Path, wait: Callable[..., Any]
) -> None:
    with a_demo(world, tmp_path, {}) as stage:
        deaf = stage.add("app", deaf=True)
        ask(world, "one", "mem0-key")
        wait(lambda: rotation(world, "mem0-key").get("phase") == "Switching", timeout=60)
        assert world.condition("Rotating")["reason"] == "Switching"
        world.operator.kill()
        world.operator.start()
        stuck = {"metadata": {"annotations": {slots.PHASE_SINCE: "2020-01-01T00:00:00Z"}}}
        world.api.patch("Secret", world.ns, "demo-mem0-key", stuck)

        def named() -> bool:
            condition = world.condition("Rotating")
            assert condition["reason"] == "NotConfirmed", condition
            return deaf.name in condition["message"]

        wait(named, timeout=60)
        assert stage.secret("mem0-key").keys() == {"current", "previous"}
        assert ("Warning", "RotationWaits") in world.events()
        stage.remove(deaf)
        wait(lambda: rotation(world, "mem0-key").get("phase") == "Idle", timeout=60)
        wait(lambda: not world.condition("Rotating"))
        assert stage.refused == []


def test_a_secret_to_follow_that_is_missing_is_named(
    world: World, wait: Callable[..., Any]
) -> None:
    world.create({"mem0": {"existingSecret": "not-there"}})
    wait(lambda: "not-there" in world.condition("Stalled").get("message", ""))
    assert world.api.get("Secret", world.ns, "demo-mem0-key") is None
    data = {"api-key": base64.b64encode(b"a-key-that-somebody-chose").decode()}
    world.api.create("Secret", world.ns, {"metadata": {"name": "not-there"}, "data": data})
    wait(lambda: world.api.get("Secret", world.ns, "demo-mem0-key"), timeout=90)


def test_the_command_asks_for_it_and_waits(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = Cli(kubeconfig(tmp_path, world.api, world.ns), capsys)
    with a_demo(world, tmp_path, {}) as stage:
        before = stage.secret("mem0-key")
        told = cli("rotate", "demo", "--component", "mem0-key", "--wait", "--timeout", "90")
        assert f"{world.ns}/demo has new credentials: mem0-key\n" in told.out
        assert stage.secret("mem0-key") != before
        told = cli("rotate", "--component", "mem0-key")
        assert f"{world.ns}/demo is to get new credentials: mem0-key\n" in told.out
        assert "no CronJob" in cli("rotate", "--release", "solo", code=Exit.ABSENT).err
        assert "NAME" in cli("rotate", "demo", "--release", "solo", code=Exit.USAGE).err
        assert stage.refused == []
