"""Ways into and out of a version: from the very first one, back again, by kubectl, by Helm 3."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack import cluster as kind
from hack import helms, pins, tools
from tests.e2e import first_light

ROOT = Path(__file__).parents[2]
QUESTION = "How many days of annual leave does an employee have?"
CREDENTIALS = ("metis-db", "mem0-db", "mem0-key", "auth")

pytestmark = [pytest.mark.full, pytest.mark.timeout(600, func_only=True)]


def present(cluster: Any) -> dict[str, Any]:
    """Values of the stack alone with the images of this checkout."""
    stack = {**cluster.small, "credentials": {"image": cluster.operator_image}, "enabled": True}
    return {"stack": stack, "operator": {"enabled": False}, "instance": {"create": False}}


def held(cluster: Any, namespace: str, name: str) -> dict[str, dict[str, str]]:
    """What the generated Secrets of an instance hold."""
    return {part: cluster.secret(namespace, f"{name}-{part}") for part in CREDENTIALS}


@pytest.fixture(scope="module")
def upgraded(cluster: Any, tmp_path_factory: pytest.TempPathFactory, upload: Any, ask: Any) -> Any:
    """An instance of the first version, used, then upgraded: its namespace and what it held."""
    tree = first_light.sources(tmp_path_factory.mktemp("first-light"))
    tags = first_light.built(tree, kind.named(kind.TESTS))
    namespace = "upgraded"
    cluster.namespace(namespace)
    try:
        old = yaml.safe_dump(first_light.values(cluster.small, tags))
        cluster.helm(
            "install", "kept", str(tree), "-n", namespace, "--wait", "--timeout", "8m",
            "-f", "-", stdin=old, timeout=500,
        )  # fmt: skip
        before = held(cluster, namespace, "kept")
        with cluster.app(namespace, "kept") as client:
            upload(client)
            assert ask(client, QUESTION)["memory"]["status"] == "ok"
            ask(client, "My favourite city is Lisbon.")
        cluster.helm(
            "upgrade", "kept", str(ROOT), "-n", namespace, "--wait", "--timeout", "8m",
            "-f", "-", stdin=yaml.safe_dump(present(cluster)), timeout=500,
        )  # fmt: skip
        yield namespace, before
    finally:
        cluster.drop_namespace(namespace)


def test_an_upgrade_from_the_first_version_keeps_credentials(cluster: Any, upgraded: Any) -> None:
    namespace, before = upgraded
    after = held(cluster, namespace, "kept")
    added = {"test-key", "keys.json"}
    for part, values in before.items():
        for key, value in values.items():
            if (part, key) != ("auth", "keys.json"):
                assert after[part][key] == value, f"{part}: {key}"
        assert set(after[part]) - set(values) <= (added if part == "auth" else set())


def test_an_upgrade_from_the_first_version_keeps_documents_and_memories(
    cluster: Any, upgraded: Any, ask: Any
) -> None:
    namespace, _ = upgraded
    with cluster.app(namespace, "kept") as client:
        documents = client.get("/api/documents").json()["documents"]
        assert {d["status"] for d in documents} == {"ready"}
        assert len(client.get("/api/chat/conversations").json()["conversations"]) == 2
        body = ask(client, QUESTION)
    assert body["sources"][0]["document_name"] == "leave-policy.md"
    assert any("Lisbon" in turn["content"] for turn in body["memory"]["history"])
    cluster.helm("test", "kept", "-n", namespace, "--timeout", "10m", timeout=620)


def test_a_rollback_takes_values_back_and_no_data(cluster: Any, upgraded: Any, ask: Any) -> None:
    namespace, _ = upgraded
    before = held(cluster, namespace, "kept")
    flags = ("-n", namespace, "--wait", "--timeout", "8m")
    cluster.helm(
        "upgrade", "kept", str(ROOT), *flags, "--reuse-values",
        "--set", "stack.app.settings.project_name=Changed,stack.app.replicas=2", timeout=500,
    )  # fmt: skip
    config = ("configmap", "kept-app", "-n", namespace)
    assert "Changed" in cluster.get(*config)["data"]["config.json"]
    cluster.helm("rollback", "kept", "2", *flags, timeout=500)
    assert "Changed" not in cluster.get(*config)["data"]["config.json"]
    assert held(cluster, namespace, "kept") == before
    with cluster.app(namespace, "kept") as client:
        body = ask(client, QUESTION)
    assert body["sources"][0]["document_name"] == "leave-policy.md"
    assert body["memory"]["status"] == "ok"


@pytest.fixture
def helm3(cluster: Any) -> Any:
    """Runs the oldest supported Helm."""
    program = helms.path(next(iter(pins.OTHER_HELMS)))
    assert program.is_file(), f"{program} is missing: run `make test-tools`"

    def run(*arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            [str(program), *arguments], cwd=ROOT, env=cluster.environment, input=stdin,
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_helm_3_installs_tests_and_removes_it(cluster: Any, helm3: Any) -> None:
    namespace = "by-helm-3"
    cluster.namespace(namespace)
    try:
        told = helm3(
            "install", "three", ".", "-n", namespace, "--wait", "--timeout", "8m", "-f", "-",
            stdin=yaml.safe_dump(present(cluster)),
        )  # fmt: skip
        assert "helm test three" in told
        told = helm3("test", "three", "-n", namespace, "--timeout", "8m")
        assert "Succeeded" in told
        helm3("uninstall", "three", "-n", namespace, "--wait")
        assert not cluster.items("deployments,statefulsets,services,jobs", "-n", namespace)
        assert len(cluster.items("pvc", "-n", namespace)) == 3
    finally:
        cluster.drop_namespace(namespace)


def test_it_runs_under_ids_that_the_cluster_hands_out(cluster: Any) -> None:
    """As OpenShift does: a high user id, the root group, and a group that owns the files."""
    namespace = "handed-out"
    values = present(cluster)
    values["stack"]["pods"] = {"fixedIds": False}
    text = cluster.helm(
        "template", "free", str(ROOT), "-n", namespace, "--skip-tests", "-f", "-",
        stdin=yaml.safe_dump(values),
    )  # fmt: skip
    objects = [one for one in yaml.safe_load_all(text) if one]
    for one in objects:
        spec = one.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            security = spec["template"]["spec"]["securityContext"]
            assert "runAsUser" not in security
            security |= {"runAsUser": 1000680000, "runAsGroup": 0, "fsGroup": 1000680000}
    cluster.namespace(namespace)
    try:
        cluster.apply(*objects)
        rollout = ("rollout", "status", "deployment/free-app", "-n", namespace)
        cluster.kubectl(*rollout, "--timeout=8m", timeout=500)
        with cluster.app(namespace, "free") as client:
            file = ("a.txt", b"The office opens at nine.")
            assert client.post("/api/documents", files=[("files", file)]).status_code == 201
    finally:
        cluster.drop_namespace(namespace)


@pytest.fixture
def namespace_of_kubectl(cluster: Any) -> Iterator[str]:
    """A namespace for what kubectl applies."""
    cluster.namespace("by-kubectl")
    yield "by-kubectl"
    cluster.drop_namespace("by-kubectl")


def test_the_rendered_manifests_can_be_applied_with_kubectl(
    cluster: Any, namespace_of_kubectl: str, tmp_path: Path
) -> None:
    """As docs/installing.md says, word for word, for the stack and a MetisRAG's definition."""
    values = present(cluster) | {"operator": {"enabled": False}}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    page = (ROOT / "docs" / "installing.md").read_text(encoding="utf-8")
    _, _, section = page.partition("## Without Helm in the cluster")
    commands = section.partition("```sh\n")[2].partition("```")[0]
    assert "--include-crds --skip-tests" in commands
    folders = {str(program.parent) for program in (tools.helm(), tools.kubectl())}
    path = os.pathsep.join([*folders, os.environ["PATH"]])
    script = commands.replace("metis-rag.yaml", str(tmp_path / "metis-rag.yaml"))
    script = script.replace("values.yaml", str(tmp_path / "values.yaml"))
    script = script.replace("-n rag", f"-n {namespace_of_kubectl}").replace("demo", "plain")
    done = subprocess.run(
        ["bash", "-euxc", script], cwd=ROOT, env={**cluster.environment, "PATH": path},
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    with cluster.app(namespace_of_kubectl, "plain") as client:
        assert client.get("/api/ready").json()["status"] == "ready"
