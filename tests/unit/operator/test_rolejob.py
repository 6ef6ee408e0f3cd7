from __future__ import annotations

from typing import Any

from metis_operator.core import rolejob
from metis_operator.core.rotation import Task


def job(*volumes: dict[str, Any]) -> dict[str, Any]:
    container = {"image": "i", "env": [{"name": "POSTGRES_USER", "value": "postgres"}]}
    spec = {"containers": [container], "volumes": list(volumes)}
    statefulset = {
        "metadata": {"name": "demo-metis-postgres", "uid": "u"},
        "spec": {"template": {"spec": spec}},
    }
    built = rolejob.build(statefulset, "demo", "metis-db", Task.PREPARE, "f" * 12, None)
    found: dict[str, Any] = built["spec"]["template"]["spec"]
    return found


def environment(spec: dict[str, Any]) -> dict[str, str]:
    return {v["name"]: v["value"] for v in spec["containers"][0]["env"]}


def test_the_superuser_s_password_goes_to_the_database_with_the_certificate_only() -> None:
    spec = job({"name": "tls", "secret": {"secretName": "demo-tls"}})
    env = environment(spec)
    assert (env["PGSSLMODE"], env["PGSSLROOTCERT"]) == ("verify-full", "/run/tls/ca.crt")
    assert env["PGHOST"] == "demo-metis-postgres"
    (authority,) = [v["secret"] for v in spec["volumes"] if v["name"] == "ca"]
    assert authority["secretName"] == "demo-tls"
    assert [item["key"] for item in authority["items"]] == ["ca.crt"]
    mounts = {m["name"] for m in spec["containers"][0]["volumeMounts"]}
    assert mounts == {v["name"] for v in spec["volumes"]}


def test_without_a_certificate_nothing_is_asked_of_the_database() -> None:
    spec = job()
    assert "PGSSLMODE" not in environment(spec)
    assert "ca" not in {v["name"] for v in spec["volumes"]}
