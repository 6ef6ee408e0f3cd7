"""What goes wrong around the operator: it loses nothing, and nobody repairs by hand.

The operator stands behind a proxy of the tests' own and is started again whenever it ends.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.component.operator.control_plane import ControlPlane
from tests.component.operator.harness import eventually
from tests.component.operator.supervised import PATIENCE, Supervised
from tests.component.operator.webhook import Webhook

READY = 'metis_operator_objects{phase="Ready"}'
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/metisrags.metisrag.dev"


@pytest.fixture
def webhook(tmp_path: Path) -> Iterator[Webhook]:
    found = Webhook(tmp_path)
    yield found
    found.close()


@pytest.mark.full
def test_an_api_server_that_is_restarted(supervised: Supervised, plane: ControlPlane) -> None:
    supervised.create()
    supervised.settle()
    plane.stop_server(kill=True)
    time.sleep(1.0)
    plane.start_server()
    supervised.api.delete("Service", supervised.ns, "demo-app")
    supervised.repaired()
    supervised.settle()


@pytest.mark.full
def test_an_etcd_that_is_restarted(supervised: Supervised, plane: ControlPlane) -> None:
    supervised.create()
    supervised.settle()
    plane.stop_etcd(kill=True)
    supervised.proxy.drop_streams()
    time.sleep(2.0)
    plane.start_etcd()

    def delete() -> bool:
        supervised.api.delete("Service", supervised.ns, "demo-app")
        return True

    eventually(delete, timeout=PATIENCE)
    supervised.repaired()
    supervised.settle()


@pytest.mark.full
@pytest.mark.parametrize("how", ["event", "status"])
def test_a_version_that_is_gone(supervised: Supervised, how: str) -> None:
    supervised.create()
    supervised.settle()
    supervised.proxy.gone = how
    began = time.monotonic()
    supervised.proxy.drop_streams()
    supervised.api.delete("Service", supervised.ns, "demo-app")
    supervised.repaired()
    assert time.monotonic() - began < 45.0, "whatever kopf's streams wait for"
    eventually(lambda: len(supervised.proxy.told) >= 9, timeout=PATIENCE, what="all kinds are told")
    supervised.api.delete("Service", supervised.ns, "demo-app")
    supervised.repaired()
    supervised.settle()


@pytest.mark.full
def test_all_of_a_kind_gone_unseen(supervised: Supervised) -> None:
    """A list with nothing in it brings no event."""
    supervised.create()
    supervised.settle()
    assert supervised.operator.metric(READY) == 1
    supervised.proxy.gone = "event"
    supervised.proxy.drop_streams()
    supervised.api.delete("MetisRAG", supervised.ns, "demo")
    eventually(lambda: not supervised.operator.metric(READY), timeout=PATIENCE)
    assert supervised.supervisor.ends == [], "a fresh process sees it anyway"
    supervised.create()
    supervised.settle()


@pytest.mark.full
def test_a_watch_that_is_not_answered_any_more(supervised: Supervised) -> None:
    """Kopf says nothing of it; the probe does, and a fresh process sees all again."""
    supervised.create()
    supervised.settle()
    supervised.proxy.held = "/configmaps"
    supervised.proxy.drop_streams()
    said: list[str] = []

    def fails() -> bool:
        answer = supervised.supervisor.operator.ask("/healthz")
        said.append(answer.text)
        return answer.status_code == 503

    eventually(fails, timeout=PATIENCE)
    assert "/api/v1/configmaps has not been watched for 30 s" in said[-1]
    eventually(lambda: supervised.supervisor.ends, timeout=15, what="the process ends")
    assert supervised.supervisor.ends == [1]
    supervised.proxy.held = ""
    supervised.api.delete("ConfigMap", supervised.ns, "demo-app")
    eventually(lambda: supervised.api.get("ConfigMap", supervised.ns, "demo-app"), timeout=PATIENCE)
    supervised.settle()


LONG = [pytest.mark.full, pytest.mark.timeout(600)]


@pytest.mark.full
@pytest.mark.parametrize(
    ("code", "seconds"),
    [
        (429, 12.0),
        pytest.param(429, 120.0, marks=LONG),
        pytest.param(503, 120.0, marks=LONG),
    ],
)
def test_an_api_server_that_is_too_busy(supervised: Supervised, code: int, seconds: float) -> None:
    supervised.create()
    supervised.settle()
    credentials = supervised.secrets()
    supervised.proxy.refuse = code
    supervised.proxy.drop_streams()
    supervised.api.delete("Service", supervised.ns, "demo-app")
    supervised.create(name="second")
    time.sleep(seconds)
    assert 0 < supervised.proxy.refused < 40 * seconds, "it asks, and does not hammer"
    supervised.proxy.refuse = 0
    supervised.repaired()
    supervised.settle()
    supervised.settle(name="second")
    assert credentials.items() <= supervised.secrets().items()


@pytest.mark.full
def test_a_child_that_is_orphaned(supervised: Supervised) -> None:
    uid = supervised.create()["metadata"]["uid"]
    supervised.settle()
    for kind, child in supervised.children():
        patch = {"metadata": {"ownerReferences": None}}
        supervised.api.patch(kind, supervised.ns, child["metadata"]["name"], patch)

    def is_owned() -> bool:
        found = [o["metadata"].get("ownerReferences", [{}]) for _, o in supervised.children()]
        return {reference.get("uid") for (reference,) in found} == {uid}

    eventually(is_owned, timeout=PATIENCE)


@pytest.mark.full
def test_another_field_manager_takes_a_field_by_force(supervised: Supervised) -> None:
    supervised.create()
    supervised.settle()
    path = supervised.api.path("Deployment", supervised.ns, "demo-app")

    def image() -> str:
        container = supervised.api.call("GET", path)["spec"]["template"]["spec"]["containers"][0]
        return str(container["image"])

    mine = image()
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {"template": {"spec": {"containers": [{"name": "app", "image": "theirs:1"}]}}},
    }
    for _ in range(3):
        supervised.api.apply(path, theirs)
        eventually(lambda: image() == mine, timeout=PATIENCE)
    for _ in range(20):
        supervised.api.apply(path, theirs)
        time.sleep(0.1)
    eventually(
        lambda: supervised.condition("Stalled").get("reason") == "Contested", timeout=PATIENCE
    )
    assert "spec.template.spec.containers[app].image" in supervised.condition("Stalled")["message"]
    supervised.settle()
    assert image() == mine, "once the other one gives in, all is well without a person"


@pytest.mark.full
def test_a_webhook_that_denies_or_is_not_there(supervised: Supervised, webhook: Webhook) -> None:
    webhook.install(supervised)
    supervised.create()
    eventually(
        lambda: supervised.condition("Stalled").get("reason") == "Rejected", timeout=PATIENCE
    )
    assert "no Services on Tuesdays" in supervised.condition("Stalled")["message"]
    assert len(supervised.workloads()) == 5, "the rest is made all the same"
    webhook.close()

    def says_so() -> bool:
        message = supervised.condition("Stalled")["message"]
        return "failed calling webhook" in message and "no Services" not in message

    eventually(says_so, timeout=PATIENCE)
    webhook.uninstall(supervised)
    supervised.settle()


NONSENSE: list[tuple[dict[str, Any], str]] = [
    ({"models": "all of them"}, "spec.models"),
    ({"models": {"chat": ""}}, "spec.models.chat"),
    ({"app": {"replicas": 1e9}}, "spec.app.replicas"),
    ({"app": {"replicas": "two"}}, "spec.app.replicas"),
    ({"metisPostgres": {"storage": {"size": "-1Gi"}}}, "spec.metisPostgres.storage.size"),
    ({"ollama": {"gpu": {"enabled": "yes"}}}, "spec.ollama.gpu.enabled"),
    ({"deletionPolicy": None, "suspend": "maybe"}, "spec.suspend"),
    ({"auth": {"mode": "\u0000"}}, "spec.auth.mode"),
    ({"app": {"podLabels": {"a b": "c d"}}}, '"a b"'),
    ({"app": {"settings": {"mem0_api_key": "x"}}}, "app.settings.mem0_api_key"),
    ({"app": {"resources": {"limits": {"cpu": "lots"}}}}, "lots"),
    ({"app": {"nodeSelector": {"-": "-"}}}, "nodeSelector"),
]


@pytest.mark.full
def test_a_resource_full_of_nonsense(supervised: Supervised) -> None:
    """Each piece is named: by the API server at once, or on the resource by the operator."""

    def stalled(name: str) -> bool:
        return bool(supervised.condition("Stalled", name).get("status") == "True")

    for number, (spec, said) in enumerate(NONSENSE):
        name = f"nonsense-{number}"
        answer = supervised.api.try_create("MetisRAG", supervised.ns, resource_of(name, spec))
        if answer.status_code < 400:
            eventually(lambda n=name: stalled(n), timeout=60)
            told = supervised.condition("Stalled", name)["message"]
        else:
            assert answer.status_code in (400, 422)
            told = answer.json()["message"]
        assert said in told, (spec, told)
        assert "Traceback" not in told
    everything: dict[str, Any] = {}
    for spec, _ in NONSENSE[:8]:
        for key, value in spec.items():
            known = everything.get(key)
            merged = {**known, **value} if isinstance(known, dict) else value
            everything[key] = merged if isinstance(value, dict) else value
    answer = supervised.api.try_create(
        "MetisRAG", supervised.ns, resource_of("all-at-once", everything)
    )
    assert answer.status_code == 422
    assert len(answer.json()["details"]["causes"]) >= 5, "all is named at once"
    supervised.create()
    supervised.settle()


def uids(supervised: Supervised) -> set[str]:
    return {child["metadata"]["uid"] for _, child in supervised.children()}


def resource_of(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "metisrag.dev/v1alpha1",
        "kind": "MetisRAG",
        "metadata": {"name": name},
        "spec": spec,
    }


@pytest.mark.full
def test_a_custom_resource_definition_removed_and_put_back(supervised: Supervised) -> None:
    supervised.create()
    supervised.settle()
    before, credentials = uids(supervised), supervised.secrets()
    definition = copy.deepcopy(supervised.api.call("GET", CRD))
    supervised.api.call("DELETE", CRD)
    eventually(lambda: supervised.api.http.get(CRD).status_code == 404, timeout=PATIENCE)
    assert uids(supervised) == before, "the operator deletes nothing on its own"
    kept = ("name", "annotations", "labels")
    definition = {
        "apiVersion": definition["apiVersion"],
        "kind": definition["kind"],
        "metadata": {k: v for k, v in definition["metadata"].items() if k in kept},
        "spec": definition["spec"],
    }
    supervised.api.apply(CRD, definition)

    def made_again() -> dict[str, Any]:
        return supervised.create()

    eventually(made_again, timeout=PATIENCE)
    supervised.check_whole(supervised.settle())
    assert supervised.secrets() == credentials
