"""TLS between the parts made here: who serves with a certificate, and who demands it."""

from __future__ import annotations

import pytest

MOUNTED = {"tls": {"enabled": True, "existingSecret": "parts-tls"}}
ISSUED = {"tls": {"enabled": True, "certManager": {"issuer": {"name": "ca"}}}}
SERVERS = {
    "mem0": "Deployment",
    "metis-postgres": "StatefulSet",
    "mem0-postgres": "StatefulSet",
}


def _pod(rendered, component):
    kind = SERVERS.get(component, "Deployment")
    return rendered.one(kind, f"demo-{component}")["spec"]["template"]["spec"]


def _env(rendered, component):
    return {v["name"]: v["value"] for v in _pod(rendered, component)["containers"][0]["env"]}


def _secret(rendered, component, volume):
    (found,) = [v for v in _pod(rendered, component)["volumes"] if v["name"] == volume]
    secret = found["secret"]
    return secret["secretName"], [item["key"] for item in secret["items"]]


@pytest.mark.parametrize("component", SERVERS)
def test_each_server_serves_with_the_certificate(stack, component):
    entries = ["tls.crt", "tls.key"]
    assert _secret(stack(MOUNTED), component, "tls") == ("parts-tls", entries)
    assert _secret(stack(ISSUED), component, "tls") == (f"demo-{component}-tls", entries)
    container = _pod(stack(MOUNTED), component)["containers"][0]
    if component == "mem0":
        assert _env(stack(MOUNTED), "mem0")["TLS_CERT_FILE"] == "/run/tls/server/tls.crt"
        schemes = {
            container[f"{probe}Probe"]["httpGet"]["scheme"]
            for probe in ("startup", "liveness", "readiness")
        }
        assert schemes == {"HTTPS"}
    else:
        assert {"ssl=on", "ssl_key_file=/run/tls/server/tls.key"} <= set(container["args"])


def test_each_client_demands_it_and_gets_no_private_key(stack):
    rendered = stack(ISSUED)
    for component, database in (("app", "metis-postgres"), ("mem0", "mem0-postgres")):
        assert _env(rendered, component)["DATABASE_TLS_MODE"] == "verify-full"
        assert _secret(rendered, component, "db-ca") == (f"demo-{database}-tls", ["ca.crt"])
    app = _env(rendered, "app")
    assert app["MEM0_ENDPOINT"] == "https://demo-mem0:8050"
    (authorities,) = [v for v in _pod(rendered, "app")["volumes"] if v["name"] == "ca"]
    assert authorities["projected"]["sources"] == [
        {"secret": {"name": "demo-mem0-tls", "items": [{"key": "ca.crt", "path": "mem0.crt"}]}}
    ]


def test_cert_manager_is_asked_for_the_names_that_clients_use(stack):
    certificates = stack(ISSUED).kinds("Certificate")
    assert {c["metadata"]["name"] for c in certificates} == {f"demo-{s}" for s in SERVERS}
    for certificate in certificates:
        name, spec = certificate["metadata"]["name"], certificate["spec"]
        assert spec["secretName"] == f"{name}-tls"
        assert spec["dnsNames"] == [name, f"{name}.rag", f"{name}.rag.svc"]
        assert spec["issuerRef"] == {"name": "ca", "kind": "Issuer", "group": "cert-manager.io"}
    assert stack(MOUNTED).kinds("Certificate") == []


def test_without_tls_nothing_of_it_is_there(stack):
    for component in (*SERVERS, "app"):
        volumes = {v["name"] for v in _pod(stack(), component)["volumes"]}
        assert not volumes & {"tls", "ca", "db-ca"}
    assert "scheme" not in _pod(stack(), "mem0")["containers"][0]["readinessProbe"]["httpGet"]


def test_what_is_brought_from_outside_gets_no_certificate(stack):
    cluster = {"mem0Postgres": {"cloudNativePG": {"cluster": "pg"}}}
    rendered = stack(ISSUED | cluster)
    names = {c["metadata"]["name"] for c in rendered.kinds("Certificate")}
    assert names == {"demo-mem0", "demo-metis-postgres"}
    assert _secret(rendered, "mem0", "db-ca") == ("pg-ca", ["ca.crt"])


def test_the_rotator_may_read_whom_to_trust(stack):
    role = stack(ISSUED).one("Role", "demo-rotator")
    assert {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": ["demo-mem0-tls"],
        "verbs": ["get"],
    } in role["rules"]


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ({"enabled": True}, ["nothing gives the certificates", "tls.existingSecret"]),
        (
            {"enabled": True, "existingSecret": "a", "certManager": {"issuer": {"name": "b"}}},
            ["both set"],
        ),
        ({"existingSecret": "a"}, ["tls.enabled is false", "set it to true"]),
    ],
)
def test_what_cannot_work_is_refused_with_the_cure(stack, refused, tls, words):
    with pytest.raises(refused) as error:
        stack({"tls": tls})
    for word in words:
        assert word in str(error.value)
