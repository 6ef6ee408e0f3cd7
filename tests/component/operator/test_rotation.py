"""Credentials rotate on a real API server; nobody is refused, whatever happens to the operator."""

from __future__ import annotations

import asyncio
import base64
import itertools
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightkube.config.kubeconfig import KubeConfig
from metis_operator.cli.exits import Exit
from metis_operator.cluster import Cluster, connect
from metis_operator.core import rotation as core
from metis_operator.core import slots
from metis_operator.core.rotation import Request
from metis_operator.core.schedule import Rules
from metis_operator.credentials import ensure_all
from metis_operator.standalone import RotationWaitsError, rotate

from hack import tools
from tests.component.operator.harness import ROOT, eventually
from tests.component.operator.rotating import Stage
from tests.component.operator.test_cli import Cli, kubeconfig
from tests.component.operator.world import World

PURPOSES = ("mem0-key", "mem0-db", "metis-db")


class Killed(BaseException):
    """The process ended here."""


class Mortal:
    """A cluster that ends the process before or after the n-th write."""

    def __init__(self, cluster: Cluster, last: int, *, after: bool) -> None:
        self._cluster, self._left, self._after = cluster, last, after

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._cluster, name)
        if name not in ("merge", "create", "delete"):
            return real

        async def write(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left < 0 and not self._after:
                raise Killed
            answer = await real(*args, **kwargs)
            if self._left < 0:
                raise Killed
            return answer

        return write


@pytest.fixture
def config(world: World) -> Any:
    return KubeConfig.from_file(world.operator.folder / "kubeconfig").get()


@contextmanager
def a_stage(world: World, folder: Path, name: str) -> Iterator[Stage]:
    """An instance without a MetisRAG, as Helm alone would have made it."""
    rendered = subprocess.run(
        [str(tools.helm()), "template", name, str(ROOT / "charts/stack"), "-n", world.ns],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for document in yaml.safe_load_all(rendered):
        if document and document["kind"] == "StatefulSet":
            world.api.create("StatefulSet", world.ns, document)
    with Stage(world.api, world.ns, name, folder).open() as stage:
        yield stage


@pytest.fixture
async def stage(world: World, config: Any, tmp_path: Path) -> Any:
    async with connect(config) as cluster:
        await ensure_all(cluster, "solo", world.ns, {})
    with a_stage(world, tmp_path, "solo") as made:
        yield made


async def turn(
    cluster: Any, stage: Stage, *purposes: str, token: str, hurry: bool = False, **more: Any
) -> list[str]:
    options: dict[str, Any] = {"rules": {}, "follows": {}, "limit": 60.0} | more
    requests = {p: Request(token, revoke_now=hurry) for p in purposes}
    return await rotate(cluster, stage.instance, stage.ns, requests=requests, **options)


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


@pytest.mark.parametrize(
    ("purpose", "after"),
    [
        ("mem0-key", False),
        ("metis-db", True),
        pytest.param("mem0-key", True, marks=pytest.mark.full),
        pytest.param("metis-db", False, marks=pytest.mark.full),
    ],
)
async def test_it_is_killed_at_each_write_and_goes_on(
    stage: Stage, config: Any, purpose: str, after: bool
) -> None:
    """Each attempt ends one write later than the last one; all but the last are killed."""
    old = stage.secret(purpose)
    rounds = 0
    async with connect(config) as cluster:
        while True:
            assert rounds < 40
            mortal = Mortal(cluster, rounds // 2, after=after)
            try:
                await turn(mortal, stage, purpose, token="t1")
            except Killed:
                rounds += 1
                if rounds % 5 == 0:  # and pods come and go
                    await asyncio.to_thread(stage.add, "mem0")
                    await asyncio.to_thread(stage.add, "app")
                    await asyncio.to_thread(stage.remove, stage.pods[0])
                continue
            break
    assert rounds >= 4
    new = stage.secret(purpose)
    assert new.keys() == old.keys()
    assert new != old
    assert stage.refused == []


@contextmanager
def crowd(stage: Stage) -> Iterator[None]:
    """Pods are added, removed and replaced all the while, two of each kind at least."""
    stop = threading.Event()

    def come_and_go() -> None:
        for number in itertools.count():
            if stop.wait(0.5):
                return
            component = ("mem0", "app")[number % 2]
            stage.add(component)
            there = [p for p in stage.pods if p.component == component]
            if len(there) > 2 + number // 2 % 2:
                stage.remove(there[0])

    thread = threading.Thread(target=come_and_go)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("purpose", PURPOSES)
async def test_killed_at_each_write_of_its_own_rotation(
    stage: Stage, config: Any, purpose: str
) -> None:
    """From rest, with pods that come and go: each write is the last one of a process, once before
    and once after it was made; the next process ends what that one began."""
    ends = {"mem0-key": {"current"}}.get(purpose, {"username", "password", "superuser-password"})
    kills = 0
    async with connect(config) as cluster:
        with crowd(stage):
            for number, after in itertools.product(range(60), (False, True)):
                old, token = stage.secret(purpose), f"{number}-{after}"
                try:
                    await turn(Mortal(cluster, number, after=after), stage, purpose, token=token)
                except Killed:
                    kills += 1
                    await turn(cluster, stage, purpose, token=token)
                else:
                    break
                new = stage.secret(purpose)
                assert new.keys() == ends
                assert new != old, "it was asked for, and is to be done"
    print(f"{purpose}: killed {kills} times")
    assert kills >= 16
    assert stage.refused == []


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


@contextmanager
def a_demo(world: World, folder: Path, spec: dict[str, Any]) -> Iterator[Stage]:
    world.create(spec)
    world.until_ready()
    with Stage(world.api, world.ns, "demo", folder).open() as stage:
        yield stage


def rotation(world: World, component: str) -> dict[str, Any]:
    found = world.resource()["status"].get("rotation", [])
    return next((dict(r) for r in found if r["component"] == component), {})


def ask(world: World, value: str, *components: str) -> None:
    notes = {f"rotate.metisrag.dev/{c}": value for c in components}
    world.api.patch("MetisRAG", world.ns, "demo", {"metadata": {"annotations": notes}})


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


@pytest.mark.full
def test_killed_in_every_phase_it_goes_on(
    world: World, tmp_path: Path, wait: Callable[..., Any]
) -> None:
    """The real process, by SIGKILL, while a pod holds each phase; and pods change under it."""

    def kill_in(phase: str) -> None:
        wait(lambda: rotation(world, "mem0-key").get("phase") == phase, timeout=60)
        world.operator.kill()
        stage.remove(next(p for p in stage.pods if p is not server and p is not client))
        stage.add("mem0")
        stage.add("app")
        world.operator.start()

    with a_demo(world, tmp_path, {}) as stage:
        old = stage.secret("mem0-key")["current"]
        server = stage.add("mem0", deaf=True)
        client = stage.add("app", deaf=True)
        ask(world, "one", "mem0-key")
        kill_in("Preparing")
        assert stage.secret("mem0-key").keys() == {"current", "next"}
        server.deaf = False
        kill_in("Switching")
        assert stage.secret("mem0-key").keys() == {"current", "previous"}
        server.deaf, client.deaf = True, False
        kill_in("Revoking")
        assert stage.secret("mem0-key").keys() == {"current", ".revoked"}
        assert server.accepts(old)
        server.deaf = False
        wait(lambda: rotation(world, "mem0-key").get("phase") == "Idle", timeout=60)
        assert stage.secret("mem0-key").keys() == {"current"}
        assert not any(p.accepts(old) for p in stage.pods if p.component == "mem0")
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
