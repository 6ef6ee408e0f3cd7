"""Each row of the topology: port, limits, health, state, and what each part is told."""

from __future__ import annotations

import json

import pytest

from app.core.config import Settings

# Of each part: kind, port, limits, liveness, folders. Liveness is what it asks, and its timings.
ROWS = {
    "app": (
        "Deployment",
        8000,
        {"cpu": "2", "memory": "2Gi"},
        ("/api/health", 30, 10, 3),
        {"/app/data", "/app/config", "/tmp"},  # noqa: S108
    ),
    "metis-postgres": (
        "StatefulSet",
        5432,
        {"cpu": "1", "memory": "1Gi"},
        ("pg_isready", 10, 5, 5),
        {"/var/lib/postgresql/data", "/var/run/postgresql", "/dev/shm"},  # noqa: S108
    ),
    "ollama": ("StatefulSet", 11434, {"memory": "32Gi"}, ("/api/version", 30, 10, 3), {"/models"}),
    "mem0-postgres": (
        "StatefulSet",
        5432,
        {"cpu": "1", "memory": "1Gi"},
        ("pg_isready", 10, 5, 5),
        {"/var/lib/postgresql/data", "/var/run/postgresql", "/dev/shm"},  # noqa: S108
    ),
    "mem0": (
        "Deployment",
        8050,
        {"cpu": "1", "memory": "1Gi"},
        ("/health", 30, 10, 3),
        {"/app/data"},
    ),
}
READY = {"app": "/api/ready", "mem0": "/ready", "ollama": "sh"}


def _container(rendered, component):
    kind = ROWS[component][0]
    pod = rendered.one(kind, f"demo-{component}")["spec"]["template"]["spec"]
    return next(c for c in pod["containers"] if c["name"] == component)


def _env(container):
    return {variable["name"]: variable["value"] for variable in container["env"]}


def _target(probe):
    return probe["httpGet"]["path"] if "httpGet" in probe else probe["exec"]["command"][0]


@pytest.mark.parametrize("component", ROWS)
def test_row(stack, component):
    _, port, limits, health, mounts = ROWS[component]
    container = _container(stack(), component)
    service = stack().one("Service", f"demo-{component}")["spec"]
    assert service["type"] == "ClusterIP"
    assert [p["port"] for p in service["ports"]] == [port]
    assert [p["containerPort"] for p in container["ports"]] == [port]
    assert service["ports"][0]["targetPort"] == container["ports"][0]["name"]
    assert container["resources"].get("limits") == limits
    assert container["resources"]["requests"]["cpu"] == "50m"
    probe = container["livenessProbe"]
    got = (
        _target(probe),
        *(probe[k] for k in ("periodSeconds", "timeoutSeconds", "failureThreshold")),
    )
    assert got == health
    assert mounts <= {mount["mountPath"] for mount in container["volumeMounts"]}


@pytest.mark.parametrize("component", ROWS)
def test_starts_are_watched_every_second_and_readiness_every_few(stack, component):
    container = _container(stack(), component)
    assert container["startupProbe"]["periodSeconds"] == 1
    assert 2 <= container["readinessProbe"]["periodSeconds"] <= 5
    assert _target(container["readinessProbe"]) == READY.get(component, "pg_isready")


@pytest.mark.parametrize("component", ["metis-postgres", "mem0-postgres"])
def test_a_database_counts_as_up_only_over_tcp(stack, component):
    # While a database is being made, its temporary server listens on the socket only.
    container = _container(stack(), component)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        command = container[probe]["exec"]["command"]
        assert command[command.index("-h") + 1] == "127.0.0.1"


def test_the_databases_are_apart_and_called_by_their_names(stack):
    metis, mem0 = (_env(_container(stack(), f"{db}-postgres")) for db in ("metis", "mem0"))
    assert (metis["POSTGRES_DB"], mem0["POSTGRES_DB"]) == ("metis", "mem0")
    assert "--data-checksums" in metis["POSTGRES_INITDB_ARGS"]
    secrets = {
        volume["secret"]["secretName"]
        for part in ("metis", "mem0")
        for volume in stack().one("StatefulSet", f"demo-{part}-postgres")["spec"]["template"][
            "spec"
        ]["volumes"]
        if "secret" in volume
    }
    assert secrets == {"demo-metis-db", "demo-mem0-db"}


def test_the_app_is_told_where_everything_is(stack):
    env = _env(_container(stack(), "app"))
    expected = {
        "METIS_CONFIG_FILE": "/app/config/config.json",
        "METIS_DB_TYPE": "postgresql",
        "METIS_POSTGRES_DSN": "postgresql://demo-metis-postgres:5432/metis",
        "METIS_LLM_PROVIDER_TYPE": "ollama",
        "METIS_OLLAMA_BASE_URL": "http://demo-ollama:11434",
        "MEM0_ENDPOINT": "http://demo-mem0:8050",
        "MEM0_API_KEY_DIR": "/run/secrets/mem0",
        "USE_MEM0": "true",
        "DEFAULT_MODEL": "gemma3:12b",
        "DEFAULT_EMBEDDING_MODEL": "nomic-embed-text",
        "AUTH_MODE": "keys",
        "AUTH_KEYS_FILE": "/run/secrets/auth/keys.json",
    }
    assert expected.items() <= env.items()


def test_the_memory_server_is_told_where_everything_is(stack):
    env = _env(_container(stack(), "mem0"))
    expected = {
        "DATABASE_URL": "postgresql://demo-mem0-postgres:5432/mem0",
        "MEM0_API_KEY_DIR": "/run/secrets/mem0",
        "OLLAMA_BASE_URL": "http://demo-ollama:11434",
        "LLM_MODEL": "gemma3:12b",
        "EMBEDDING_MODEL": "nomic-embed-text",
        "MEM0_TELEMETRY": "false",
    }
    assert expected.items() <= env.items()


def test_a_published_service_port_is_where_the_others_look(stack):
    rendered = stack(
        {"mem0Postgres": {"service": {"port": 5433}}, "ollama": {"service": {"port": 80}}}
    )
    env = _env(_container(rendered, "mem0"))
    assert env["DATABASE_URL"] == "postgresql://demo-mem0-postgres:5433/mem0"
    assert env["OLLAMA_BASE_URL"] == "http://demo-ollama:80"


@pytest.mark.parametrize(("component", "module"), [("app", "app"), ("mem0", "mem0_server")])
def test_a_server_waits_by_asking_and_not_by_sleeping(stack, component, module):
    pod = stack().one("Deployment", f"demo-{component}")["spec"]["template"]["spec"]
    (prepare,) = pod["initContainers"]
    assert prepare["command"] == ["python", "-m", f"{module}.prepare"]
    assert prepare["image"] == pod["containers"][0]["image"]
    assert prepare["env"] == pod["containers"][0]["env"]


def test_only_the_entries_needed_of_a_secret_are_mounted(stack):
    pod = stack().one("Deployment", "demo-app")["spec"]["template"]["spec"]
    secrets = {
        volume["secret"]["secretName"]: [item["key"] for item in volume["secret"].get("items", [])]
        for volume in pod["volumes"]
        if "secret" in volume
    }
    assert secrets == {
        "demo-metis-db": ["username", "password"],
        "demo-mem0-key": [],  # whole: the previous key comes and goes
        "demo-auth": ["keys.json"],
    }


def test_without_keys_no_auth_secret_is_needed(stack):
    rendered = stack({"auth": {"mode": "none"}})
    pod = rendered.one("Deployment", "demo-app")["spec"]["template"]["spec"]
    assert "auth" not in {volume["name"] for volume in pod["volumes"]}
    assert _env(pod["containers"][0])["AUTH_MODE"] == "none"


def test_replicas_left_out_are_left_to_the_cluster(stack):
    assert "replicas" not in stack().one("Deployment", "demo-app")["spec"]
    assert stack({"app": {"replicas": 3}}).one("Deployment", "demo-app")["spec"]["replicas"] == 3
    assert stack({"app": {"replicas": 0}}).one("Deployment", "demo-app")["spec"]["replicas"] == 0


def test_suspended_everything_rests(stack):
    rendered = stack({"suspend": True, "app": {"replicas": 3}})
    workloads = rendered.kinds("Deployment") + rendered.kinds("StatefulSet")
    assert [workload["spec"]["replicas"] for workload in workloads] == [0] * 5


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_the_deletion_policy_reaches_the_claims(stack, policy):
    for workload in stack({"deletionPolicy": policy}).kinds("StatefulSet"):
        retention = workload["spec"]["persistentVolumeClaimRetentionPolicy"]
        assert retention == {"whenDeleted": policy, "whenScaled": "Retain"}


@pytest.mark.parametrize(
    ("image", "registry", "expected"),
    [
        ({"repository": "ghcr.io/a/b", "tag": "1"}, "", "ghcr.io/a/b:1"),
        ({"repository": "ghcr.io/a/b", "tag": "1"}, "r.example:5000/m", "r.example:5000/m/a/b:1"),
        ({"repository": "a/b", "tag": "1"}, "r.example", "r.example/a/b:1"),
        ({"repository": "localhost/b", "tag": "1"}, "r.example", "r.example/b:1"),
        ({"repository": "a/b", "digest": f"sha256:{'0' * 64}"}, "", f"a/b@sha256:{'0' * 64}"),
    ],
)
def test_image_references(stack, image, registry, expected):
    rendered = stack({"app": {"image": image}, "image": {"registry": registry}})
    assert _container(rendered, "app")["image"] == expected


def _settings(rendered):
    """The app's configuration file and the stamp whose change brings new pods."""
    workload = rendered.one("Deployment", "demo-app")
    config = rendered.one("ConfigMap", "demo-app")["data"]["config.json"]
    stamp = workload["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
    return json.loads(config), stamp


def test_a_change_of_settings_brings_new_pods(stack):
    first, before = _settings(stack({"app": {"settings": {"chunk_size": 1500}}}))
    second, after = _settings(stack({"app": {"settings": {"chunk_size": 1000000}}}))
    assert (first["chunk_size"], second["chunk_size"]) == (1500, 1000000)
    assert before != after


def test_the_limits_of_the_memory_caches_are_changed_without_new_pods(stack):
    usual, before = _settings(stack({}))
    assert {name: value for name, value in usual.items() if name.startswith("mem0_")} == {
        name: field.default
        for name, field in Settings.model_fields.items()
        if "_cache_" in name or name == "mem0_not_found_ttl"
    }
    changed, after = _settings(
        stack(
            {
                "app": {
                    "memory": {"cache": {"recall": {"ttlSeconds": 5}, "search": {"size": 1000000}}},
                    "settings": {"mem0_human_cache_size": 7},
                }
            }
        )
    )
    assert changed == usual | {
        "mem0_recall_cache_ttl": 5,
        "mem0_search_cache_size": 1000000,
        "mem0_human_cache_size": 7,
    }
    assert before == after


def test_settings_of_the_memory_server_are_told_as_written(stack):
    rendered = stack({"mem0": {"settings": {"max_body_bytes": 1000000, "infer": False, "x": "y"}}})
    env = _env(_container(rendered, "mem0"))
    assert (env["MAX_BODY_BYTES"], env["INFER"], env["X"]) == ("1000000", "false", "y")


def test_names_that_yaml_takes_for_something_else_stay_names(stack):
    labels = stack(name="on").one("Deployment", "on-app")["metadata"]["labels"]
    assert labels["app.kubernetes.io/instance"] == "on"
