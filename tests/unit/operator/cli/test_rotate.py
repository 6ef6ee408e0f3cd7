"""``kubectl metis rotate``: the Job of a release, and what is left of a rotation."""

from __future__ import annotations

import argparse
from typing import Any

import pytest
from metis_operator.cli.exits import CommandError
from metis_operator.cli.rotate import _left, chosen, configure, job_from


def cron() -> dict[str, Any]:
    container = {"name": "rotator", "image": "i", "args": ["rotation", "--instance", "solo"]}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}
    return {
        "metadata": {"name": "solo-rotator", "namespace": "ns", "uid": "u1"},
        "spec": {
            "schedule": "7 3 * * *",
            "jobTemplate": {
                "metadata": {"labels": {"c": "d"}},
                "spec": {"backoffLimit": 2, "template": template},
            },
        },
    }


def test_the_job_is_that_of_the_cron_job_with_what_is_asked_for() -> None:
    source = cron()
    job = job_from(source, ["mem0-key", "metis-db"], hurry=True, suffix="ab12")
    assert source == cron()
    (owner,) = job["metadata"].pop("ownerReferences")
    assert (owner["kind"], owner["name"], owner["uid"]) == ("CronJob", "solo-rotator", "u1")
    assert "controller" not in owner, "the CronJob would take it for one of its own"
    assert job["metadata"] == {
        "labels": {"c": "d"}, "name": "solo-rotator-ab12", "namespace": "ns",
    }  # fmt: skip
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == [
        "rotation", "--instance", "solo",
        "--component", "mem0-key", "--component", "metis-db", "--revoke-now",
    ]  # fmt: skip
    assert job["spec"]["backoffLimit"] == 2


def test_a_rotation_has_ended_when_another_one_is_in_use() -> None:
    before = {"component": "mem0-key", "phase": "Idle", "current": "aaa"}
    assert "not begun" in _left("mem0-key", before, before)
    assert "switching" in _left("mem0-key", before, before | {"phase": "Switching"})
    told = before | {"phase": "Switching", "message": "app-1 does not answer"}
    assert _left("mem0-key", before, told) == "app-1 does not answer"
    assert _left("mem0-key", before, before | {"current": "bbb"}) == ""
    assert "not told of" in _left("mem0-key", before, None)


def test_what_is_brought_from_outside_is_left_out_and_refused_by_name() -> None:
    assert chosen([], ["metis-db"], "demo") == ["metis-db"]
    assert chosen([], [], "demo") == ["mem0-key", "mem0-db", "metis-db"]  # not told of yet
    assert chosen(["mem0-db"], ["mem0-db", "metis-db"], "demo") == ["mem0-db"]
    with pytest.raises(CommandError, match=r"demo has no mem0-key of its own"):
        chosen(["mem0-key"], ["metis-db"], "demo")


def test_who_names_no_component_means_all_there_are() -> None:
    parser = argparse.ArgumentParser()
    configure(parser)
    named = parser.parse_args(["demo"]).component
    assert chosen(named, ["metis-db", "mem0-key"], "demo") == ["mem0-key", "metis-db"]
