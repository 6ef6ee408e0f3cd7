"""A child's trouble stands on the MetisRAG within two seconds, and is told once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.component.operator.world import World


def app_pod(**state: Any) -> dict[str, Any]:
    return {
        "phase": "Pending",
        "containerStatuses": [
            {
                "name": "app",
                "image": "ghcr.io/metis-rag/app:nope",
                "imageID": "",
                "ready": False,
                "restartCount": state.pop("restarts", 0),
                **state,
            }
        ],
    }


SPEC = {"containers": [{"name": "app", "image": "ghcr.io/metis-rag/app:nope"}]}
PULL = {
    "state": {
        "waiting": {
            "reason": "ImagePullBackOff",
            "message": 'Back-off pulling image "ghcr.io/metis-rag/app:nope": not found',
        }
    }
}
CRASH = {
    "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
    "lastState": {"terminated": {"exitCode": 3, "reason": "Error", "message": "no such model\n"}},
    "restarts": 2,
}


def test_an_image_pull_error_and_the_way_back(world: World, wait: Callable[..., Any]) -> None:
    world.create()
    world.until_made()
    started = time.monotonic()
    world.pod("app", SPEC, app_pod(**PULL))
    wait(lambda: world.component("app")["reason"] == "ImagePullError")
    assert time.monotonic() - started < 2
    ready = world.condition("Ready")
    assert ready["reason"] == "ImagePullError"
    assert "cannot pull image ghcr.io/metis-rag/app:nope" in ready["message"]
    assert world.resource()["status"]["phase"] == "Degraded"
    world.api.delete("Pod", world.ns, "demo-app-0")
    world.play_kubelet()
    world.until_phase("Ready")


def test_trouble_that_comes_and_goes_is_one_event(world: World, wait: Callable[..., Any]) -> None:
    world.create()
    world.until_made()
    running = {"state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}, "started": True}
    for _ in range(3):
        world.pod("app", SPEC, app_pod(**CRASH))
        wait(lambda: world.component("app")["reason"] == "CrashLoop")
        assert "exit code 3 (2 restarts): no such model" in world.component("app")["message"]
        world.pod("app", SPEC, app_pod(**running))
        wait(lambda: world.component("app")["reason"] == "WaitingForDependency")
    world.look_again()
    assert [e for e in world.events() if e[0] == "Warning"] == [("Warning", "CrashLoop")]


def test_a_secret_of_the_user_s_that_is_not_there(world: World, wait: Callable[..., Any]) -> None:
    world.create({"auth": {"existingSecret": "my-keys"}})
    world.until_phase("Degraded")
    found = world.component("app")
    assert found["reason"] == "SecretMissing"
    assert "my-keys" in found["message"]
    assert world.api.get("Secret", world.ns, "demo-auth") is None
    secret = {"metadata": {"name": "my-keys"}, "stringData": {"keys.json": '{"keys": []}'}}
    theirs = world.api.create("Secret", world.ns, secret)
    world.play_kubelet()
    world.until_phase("Ready")
    assert world.get("Secret", "my-keys") == theirs
