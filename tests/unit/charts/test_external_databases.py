"""A database of the user's takes the place of one made here, which then leaves nothing behind."""

from __future__ import annotations

import pytest

EXTERNAL = {
    "metisPostgres": {
        "external": {"url": "postgresql://db.example:6432/metis", "tls": {"caSecret": "db-ca"}},
        "existingSecret": "metis-login",
    },
    "mem0Postgres": {
        "external": {"url": "postgresql://db.example/mem0", "tls": {"mode": "require"}},
        "existingSecret": "mem0-login",
    },
}
CLOUD_NATIVE = {
    "metisPostgres": {"cloudNativePG": {"cluster": "pg", "database": "metis"}},
    "mem0Postgres": {"cloudNativePG": {"cluster": "pg2"}, "existingSecret": "mem0-login"},
}


def _pod(rendered, component):
    return rendered.one("Deployment", f"demo-{component}")["spec"]["template"]["spec"]


def _env(rendered, component):
    return {v["name"]: v["value"] for v in _pod(rendered, component)["containers"][0]["env"]}


def _mounted(rendered, component):
    """The entries of Secrets that the pod sees, by their volume."""
    return {
        volume["name"]: (
            volume["secret"]["secretName"],
            [item["key"] for item in volume["secret"].get("items", [])],
        )
        for volume in _pod(rendered, component)["volumes"]
        if "secret" in volume
    }


def _named(rendered):
    return {m["metadata"]["name"] for m in rendered.manifests}


@pytest.mark.parametrize("values", [EXTERNAL, CLOUD_NATIVE])
def test_nothing_of_the_managed_part_is_left(stack, values):
    rendered = stack(values)
    assert not [name for name in _named(rendered) if "postgres" in name or "rotation" in name]
    credentials = rendered.one("Job", "demo-credentials")
    args = credentials["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[-4:] == ["--only", "mem0-key", "--only", "auth"]
    (rotator,) = rendered.kinds("CronJob")
    container = rotator["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert [a for a in container["args"] if "-db" in a] == []
    for role in rendered.kinds("Role"):
        for rule in role["rules"]:
            names = rule.get("resourceNames", [])
            # No names at all would mean all objects.
            assert rule["verbs"] == ["create"] or names or "secrets" not in rule["resources"]
            assert not [name for name in names if name.endswith("-db") or "postgres" in name]


def test_one_may_be_made_here_and_the_other_not(stack):
    rendered = stack({"mem0Postgres": EXTERNAL["mem0Postgres"]})
    assert {"demo-metis-postgres", "demo-rotation"} <= _named(rendered)
    assert "demo-mem0-postgres" not in _named(rendered)
    (rotator,) = [r for r in rendered.kinds("Role") if r["metadata"]["name"] == "demo-rotator"]
    secrets = [n for r in rotator["rules"] for n in r.get("resourceNames", []) if "-db" in n]
    assert secrets == ["demo-metis-db"]
    assert _env(rendered, "app")["METIS_POSTGRES_DSN"] == (
        "postgresql://demo-metis-postgres:5432/metis"
    )
    assert "DATABASE_TLS_MODE" not in _env(rendered, "app")


def test_the_clients_are_told_where_it_is_and_whom_to_trust(stack):
    rendered = stack(EXTERNAL)
    app, mem0 = _env(rendered, "app"), _env(rendered, "mem0")
    assert app["METIS_POSTGRES_DSN"] == "postgresql://db.example:6432/metis"
    assert (app["DATABASE_TLS_MODE"], app["DATABASE_CA_FILE"]) == (
        "verify-full",
        "/run/tls/db/ca.crt",
    )
    assert _mounted(rendered, "app")["db"] == ("metis-login", ["username", "password"])
    assert _mounted(rendered, "app")["db-ca"] == ("db-ca", ["ca.crt"])
    assert mem0["DATABASE_URL"] == "postgresql://db.example/mem0"
    assert mem0["DATABASE_TLS_MODE"] == "require"
    assert "DATABASE_CA_FILE" not in mem0
    assert "db-ca" not in _mounted(rendered, "mem0")


def test_a_cluster_of_cloudnativepg_is_found_by_its_name(stack):
    rendered = stack(CLOUD_NATIVE)
    app, mem0 = _env(rendered, "app"), _env(rendered, "mem0")
    assert app["METIS_POSTGRES_DSN"] == "postgresql://pg-rw:5432/metis"
    assert mem0["DATABASE_URL"] == "postgresql://pg2-rw:5432/app"
    assert app["DATABASE_TLS_MODE"] == mem0["DATABASE_TLS_MODE"] == "verify-full"
    # Of the authority's Secret its certificate only: the key beside it signs.
    assert _mounted(rendered, "app")["db-ca"] == ("pg-ca", ["ca.crt"])
    assert _mounted(rendered, "app")["db"] == ("pg-app", ["username", "password"])
    assert _mounted(rendered, "mem0")["db"] == ("mem0-login", ["username", "password"])


def _egress(rendered, component):
    rules = rendered.one("NetworkPolicy", f"demo-{component}")["spec"]["egress"]
    return {rule["ports"][0]["port"]: rule.get("to", "anywhere") for rule in rules}


def test_the_clients_may_reach_its_port_and_no_other(stack):
    rendered = stack(EXTERNAL)
    assert set(_egress(rendered, "app")) == {53, 6432, 8050, 11434}
    assert _egress(rendered, "app")[6432] == "anywhere"
    assert set(_egress(rendered, "mem0")) == {53, 5432, 11434}
    peers = [{"ipBlock": {"cidr": "10.20.0.0/16"}}]
    bounded = {"metisPostgres": {"external": {"peers": peers}}}
    values = {
        "metisPostgres": EXTERNAL["metisPostgres"]
        | {"external": EXTERNAL["metisPostgres"]["external"] | bounded["metisPostgres"]["external"]}
    }
    assert _egress(stack(values), "app")[6432] == peers
    cluster = [{"podSelector": {"matchLabels": {"cnpg.io/cluster": "pg"}}}]
    assert _egress(stack(CLOUD_NATIVE), "app")[5432] == cluster


def _refusal(**external):
    return {"metisPostgres": {"external": external, "existingSecret": "login"}}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            _refusal(url="postgresql://ann:secret@db:5432/metis"),
            ["holds a login", "write postgresql://db:5432/metis", "metisPostgres.existingSecret"],
        ),
        (_refusal(url="postgresql://db/metis?sslmode=require"), ["metisPostgres.external.tls"]),
        (_refusal(url="postgresql://db:5432"), ["names no database"]),
        (_refusal(url="mysql://db/metis"), ["/metisPostgres/external/url"]),
        (
            {"metisPostgres": {"external": {"url": "postgresql://db/metis"}}},
            ["metisPostgres.existingSecret is empty", "username and password"],
        ),
        (
            _refusal(url="postgresql://db/metis", tls={"mode": "require", "caSecret": "ca"}),
            ["checks no certificate", "verify-full"],
        ),
        (_refusal(tls={"mode": "require"}), ["metisPostgres.external.url is empty"]),
        (_refusal(url="postgresql://db/metis", tls={"mode": "allow"}), ["'verify-full'"]),
        (
            {"metisPostgres": EXTERNAL["metisPostgres"] | {"cloudNativePG": {"cluster": "pg"}}},
            ["both set", "empty one of them"],
        ),
        (
            {
                "metisPostgres": _refusal(url="postgresql://db:5432/one")["metisPostgres"],
                "mem0Postgres": _refusal(url="postgresql://db/one")["metisPostgres"],
            },
            ["both the database at db:5432/one", "a database of its own"],
        ),
    ],
)
def test_what_cannot_work_is_refused_with_the_cure(stack, refused, values, words):
    with pytest.raises(refused) as error:
        stack(values)
    for word in words:
        assert word in str(error.value)
    assert "secret@" not in str(error.value)
