"""PostgreSQL is sized by its limit and its clients, and refuses data that it cannot read."""

from __future__ import annotations

import os
import subprocess

import pytest
from metis_operator.core import rolejob
from metis_operator.core.rotation import Task


def _arguments(rendered, name="metis-postgres"):
    pod = rendered.one("StatefulSet", f"demo-{name}")["spec"]["template"]["spec"]
    words = pod["containers"][0]["args"]
    assert words[0] == "postgres"
    assert set(words[1::2]) <= {"-c"}
    return dict(word.split("=", 1) for word in words[2::2])


def _memory(limit):
    return {"metisPostgres": {"resources": {"limits": {"memory": limit}}}}


@pytest.mark.parametrize(
    ("limit", "buffers", "cache", "work"),
    [
        ("1Gi", "256MB", "640MB", "4MB"),
        ("64Gi", "16384MB", "40960MB", "81MB"),
        ("1500M", "357MB", "893MB", "4MB"),
        (1073741824, "256MB", "640MB", "4MB"),
    ],
)
def test_memory_follows_the_limit(stack, limit, buffers, cache, work):
    settings = _arguments(stack(_memory(limit)))
    assert settings["shared_buffers"] == buffers
    assert settings["effective_cache_size"] == cache
    assert settings["work_mem"] == work


def test_without_a_limit_the_server_keeps_its_own_settings(stack):
    values = {"metisPostgres": {"resources": {"limits": None}}}
    assert set(_arguments(stack(values))) == {"max_connections"}


def test_ones_own_settings_win(stack):
    values = {"mem0Postgres": {"parameters": {"shared_buffers": "1GB", "log_statement": "ddl"}}}
    settings = _arguments(stack(values), "mem0-postgres")
    assert (settings["shared_buffers"], settings["log_statement"]) == ("1GB", "ddl")


@pytest.mark.parametrize(
    ("values", "connections"),
    [
        ({}, "200"),
        ({"app": {"replicas": 8}}, "200"),
        ({"app": {"replicas": 20}}, "600"),
        ({"app": {"autoscaling": {"enabled": True, "maxReplicas": 20}}}, "600"),
        ({"app": {"settings": {"DATABASE_POOL_SIZE": 100, "database_max_overflow": 0}}}, "400"),
        ({"metisPostgres": {"maxConnections": 52}}, "52"),
    ],
)
def test_connections_suffice_for_the_pools_of_all_pods(stack, values, connections):
    assert _arguments(stack(values))["max_connections"] == connections


def test_too_few_connections_are_refused(stack, refused):
    with pytest.raises(refused) as error:
        stack({"mem0Postgres": {"maxConnections": 30}, "mem0": {"replicas": 2}})
    assert "mem0Postgres.maxConnections is 30 but the pods of mem0 may open 58" in str(error.value)
    assert "raise it to 58" in str(error.value)


def test_shared_memory_is_bounded_by_the_limit(stack):
    for limit, size in (("1Gi", "256Mi"), ("4Gi", "1024Mi")):
        volumes = stack(_memory(limit)).one("StatefulSet", "demo-metis-postgres")
        volumes = volumes["spec"]["template"]["spec"]["volumes"]
        (shm,) = [v["emptyDir"] for v in volumes if v["name"] == "shm"]
        assert shm == {"medium": "Memory", "sizeLimit": size}


@pytest.fixture
def start(stack, tmp_path):
    """Runs start.sh over a volume in ``tmp_path``, with a server that says it is PostgreSQL 17."""
    script = stack().one("ConfigMap", "demo-metis-postgres")["data"]["start.sh"]
    volume = tmp_path / "volume"
    (volume / "pgdata").mkdir(parents=True)
    (tmp_path / "start.sh").write_text(script.replace("/var/lib/postgresql/data", str(volume)))
    for name, text in {
        "postgres": """[ "$*" = --version ] || { echo started "$@"; exit; }
            echo 'postgres (PostgreSQL) 17.6 (Debian 17.6-1.pgdg12+1)'""",
        "docker-ensure-initdb.sh": 'echo made for "$@"; mkdir -p "$PGDATA"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)

    def run():
        env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PGDATA": str(volume / "pgdata")}
        return subprocess.run(
            ["sh", tmp_path / "start.sh", "postgres", "-c", "port=5432"],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )

    return run, volume


def test_data_of_another_major_version_is_refused_and_left_alone(start):
    run, volume = start
    (volume / "pgdata/PG_VERSION").write_text("15\n")
    done = run()
    assert done.returncode == 1
    assert "data of PostgreSQL 15 and this image is PostgreSQL 17" in done.stderr
    assert "started" not in done.stdout
    assert (volume / "pgdata/PG_VERSION").read_text() == "15\n"


def test_data_of_this_version_is_served(start):
    run, volume = start
    (volume / "pgdata/PG_VERSION").write_text("17\n")
    assert run().stdout == "started -c port=5432\n"
    assert not (volume / "initializing").exists()


def test_a_first_start_is_marked_and_an_interrupted_one_made_anew(start):
    run, volume = start
    made = "made for postgres -c port=5432\n"
    assert run().stdout == made + "started -c port=5432\n"
    assert (volume / "initializing").exists()
    (volume / "pgdata/PG_VERSION").write_text("17\n")
    assert run().returncode == 0
    assert (volume / "pgdata.interrupted/PG_VERSION").exists()
    assert not (volume / "pgdata/PG_VERSION").exists()


def test_extra_variables_reach_the_server_alone(stack):
    rendered = stack({"metisPostgres": {"extraEnv": [{"name": "PGTZ", "value": "Europe/Paris"}]}})
    for name, there in (("demo-metis-postgres", True), ("demo-mem0-postgres", False)):
        (container,) = rendered.one("StatefulSet", name)["spec"]["template"]["spec"]["containers"]
        assert ({"name": "PGTZ", "value": "Europe/Paris"} in container["env"]) is there


def test_the_jobs_of_a_rotation_speak_to_the_port_of_the_service(stack):
    rendered = stack({"mem0Postgres": {"service": {"port": 5433}}})
    for purpose, part, port in (("mem0-db", "mem0", "5433"), ("metis-db", "metis", "5432")):
        statefulset = rendered.one("StatefulSet", f"demo-{part}-postgres")
        statefulset["metadata"]["uid"] = "1"
        made = rolejob.build(statefulset, "demo", purpose, Task.PREPARE, "f" * 12, None)
        (container,) = made["spec"]["template"]["spec"]["containers"]
        env = {e["name"]: e["value"] for e in container["env"]}
        assert (env["PGHOST"], env["PGPORT"]) == (f"demo-{part}-postgres", port)
