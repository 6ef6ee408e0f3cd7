"""What goes wrong around the operator: it loses nothing, and nobody repairs by hand.

The operator stands behind a proxy of the tests' own and is started again whenever it ends.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.component.operator.control_plane import ControlPlane
from tests.component.operator.harness import Operator, Supervisor, eventually
from tests.component.operator.proxy import Proxy
from tests.component.operator.webhook import Webhook
from tests.component.operator.world import World

PATIENCE = 120.0
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/metisrags.metisrag.dev"


@dataclass
class Stage(World):
    """A world whose operator can be killed and whose API server can be made to fail."""

    proxy: Proxy
    supervisor: Supervisor

    def secrets(self) -> dict[str, dict[str, str]]:
        found = self.api.all("Secret", self.ns)
        return {o["metadata"]["name"]: o.get("data", {}) for o in found}

    def settle(self, *, name: str = "demo") -> dict[str, Any]:
        """Play the cluster's part until the MetisRAG is Ready."""

        def check() -> dict[str, Any] | None:
            self.play_garbage_collector(name)
            self.play_kubelet(name)
            found = self.resource(name)
            status = found["status"]
            assert status["observedGeneration"] == found["metadata"]["generation"], status
            assert status["phase"] == "Ready", status
            return found

        return dict(eventually(check, timeout=PATIENCE))

    def play_garbage_collector(self, name: str) -> None:
        """Let go of what was deleted with its pods to be kept."""
        for kind, found in self.workloads(name):
            if found["metadata"].get("finalizers") == ["orphan"]:
                patch = {"metadata": {"finalizers": None}}
                self.api.patch(kind, self.ns, found["metadata"]["name"], patch)

    def repaired(self) -> None:
        """Wait until a missing Service is there again."""
        eventually(lambda: self.api.get("Service", self.ns, "demo-app"), timeout=PATIENCE)


@pytest.fixture
def stage(
    plane: ControlPlane,
    operator: Operator,
    ns: str,
    tmp_path_factory: pytest.TempPathFactory,
    free_port: Callable[[], int],
) -> Iterator[Stage]:
    if operator.process is not None and operator.process.poll() is None:
        operator.stop()
    api, proxy = plane.api, Proxy(plane.api)
    folder = tmp_path_factory.mktemp("supervised")
    mine = Operator(api, operator.wire, folder, free_port(), server=proxy.url)
    supervisor = Supervisor(mine)
    yield Stage(api, mine, ns, proxy, supervisor)
    supervisor.close()
    proxy.close()
    for left in api.all("MetisRAG", ns):
        api.delete("MetisRAG", ns, left["metadata"]["name"])
    assert "Traceback" not in supervisor.logs(), supervisor.logs()


@pytest.fixture
def webhook(tmp_path: Path) -> Iterator[Webhook]:
    found = Webhook(tmp_path)
    yield found
    found.close()


Step = Callable[[Stage], None]

ONE_WAY = {"models": {"chat": "other"}, "networkPolicy": {"enabled": False}}
THE_OTHER = {"models": {"chat": "third"}, "networkPolicy": {"enabled": True}}


def make(stage: Stage) -> None:
    """From nothing."""
    if stage.api.get("MetisRAG", stage.ns, "demo"):
        stage.api.delete("MetisRAG", stage.ns, "demo")
    for kind, child in stage.children():
        stage.api.delete(kind, stage.ns, child["metadata"]["name"])
    for name in stage.secrets():
        stage.api.delete("Secret", stage.ns, name)
    stage.create()


def update(stage: Stage) -> None:
    """Changes pods, and takes objects away or brings them back; ties data, or lets it go."""
    spec = stage.resource()["spec"]
    if spec.get("deletionPolicy") == "Delete":
        stage.change({"spec": {**THE_OTHER, "deletionPolicy": "Retain"}})
    else:
        stage.change({"spec": {**ONE_WAY, "deletionPolicy": "Delete"}})


def delete_and_make_again(stage: Stage) -> None:
    """A new one adopts what the former one left."""
    stage.api.delete("MetisRAG", stage.ns, "demo")
    stage.create()


STEPS: tuple[Step, ...] = (make, update, delete_and_make_again)


def is_whole(stage: Stage, resource: dict[str, Any]) -> None:
    """All children are there, once, of this resource, and as the status says."""
    children = stage.children()
    policies = resource["spec"].get("networkPolicy", {}).get("enabled", True)
    assert policies == any(kind == "NetworkPolicy" for kind, _ in children)
    assert len(stage.workloads()) == 5
    for _, child in children:
        (owner,) = child["metadata"]["ownerReferences"]
        assert owner["uid"] == resource["metadata"]["uid"]
    assert len(resource["status"]["inventory"]) == len(children)


def run_and_kill(stage: Stage, step: Step, number: int, when: str) -> bool:
    """Take a step with a kill at that write; whether it came to it."""
    killed = False

    def strike(count: int, moment: str) -> None:
        nonlocal killed
        if (count, moment) == (number, when):
            killed = True
            stage.supervisor.kill()

    before = {} if step is make else stage.secrets()
    stage.proxy.writes, stage.proxy.on_write = 0, strike
    step(stage)
    resource = stage.settle()
    stage.proxy.on_write = lambda *_: None
    is_whole(stage, resource)
    after = stage.secrets()
    assert before.items() <= after.items(), "credentials are made once"
    assert sorted(after) == ["demo-auth", "demo-mem0-db", "demo-mem0-key", "demo-metis-db"]
    return killed


def test_killed_now_and_then(stage: Stage) -> None:
    for step, number, when in zip(STEPS, (3, 9, 5), ("after", "before", "after"), strict=True):
        assert run_and_kill(stage, step, number, when)
    assert stage.supervisor.ends == [-9] * 3


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("step", STEPS)
def test_killed_after_every_write(stage: Stage, step: Step) -> None:
    make(stage)
    stage.settle()
    kills = 0
    while run_and_kill(stage, step, kills + 1, "after"):
        kills += 1
    assert kills > 8, "there are more writes than that"
    assert set(stage.supervisor.ends) == {-9}


@pytest.mark.full
def test_an_api_server_that_is_restarted(stage: Stage, plane: ControlPlane) -> None:
    stage.create()
    stage.settle()
    plane.stop_server(kill=True)
    time.sleep(1.0)
    plane.start_server()
    stage.api.delete("Service", stage.ns, "demo-app")
    stage.repaired()
    stage.settle()


@pytest.mark.full
def test_an_etcd_that_is_restarted(stage: Stage, plane: ControlPlane) -> None:
    stage.create()
    stage.settle()
    plane.stop_etcd(kill=True)
    stage.proxy.drop_streams()
    time.sleep(2.0)
    plane.start_etcd()

    def delete() -> bool:
        stage.api.delete("Service", stage.ns, "demo-app")
        return True

    eventually(delete, timeout=PATIENCE)
    stage.repaired()
    stage.settle()


@pytest.mark.full
@pytest.mark.parametrize("how", ["event", "status"])
def test_a_version_that_is_gone(stage: Stage, how: str) -> None:
    stage.create()
    stage.settle()
    stage.proxy.gone = how
    began = time.monotonic()
    stage.proxy.drop_streams()
    stage.api.delete("Service", stage.ns, "demo-app")
    stage.repaired()
    assert time.monotonic() - began < 45.0, "whatever kopf's streams wait for"
    eventually(lambda: len(stage.proxy.told) >= 9, timeout=PATIENCE, what="all kinds are told")
    stage.api.delete("Service", stage.ns, "demo-app")
    stage.repaired()
    stage.settle()


@pytest.mark.full
def test_a_watch_that_is_not_answered_any_more(stage: Stage) -> None:
    """Kopf says nothing of it; the probe does, and a fresh process sees all again."""
    stage.create()
    stage.settle()
    stage.proxy.held = "/configmaps"
    stage.proxy.drop_streams()
    said: list[str] = []

    def fails() -> bool:
        answer = stage.supervisor.operator.ask("/healthz")
        said.append(answer.text)
        return answer.status_code == 503

    eventually(fails, timeout=PATIENCE)
    assert "/api/v1/configmaps has not been watched for 30 s" in said[-1]
    eventually(lambda: stage.supervisor.ends, timeout=15, what="the process ends")
    assert stage.supervisor.ends == [1]
    stage.proxy.held = ""
    stage.api.delete("ConfigMap", stage.ns, "demo-app")
    eventually(lambda: stage.api.get("ConfigMap", stage.ns, "demo-app"), timeout=PATIENCE)
    stage.settle()


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
def test_an_api_server_that_is_too_busy(stage: Stage, code: int, seconds: float) -> None:
    stage.create()
    stage.settle()
    credentials = stage.secrets()
    stage.proxy.refuse = code
    stage.proxy.drop_streams()
    stage.api.delete("Service", stage.ns, "demo-app")
    stage.create(name="second")
    time.sleep(seconds)
    assert 0 < stage.proxy.refused < 40 * seconds, "it asks, and does not hammer"
    stage.proxy.refuse = 0
    stage.repaired()
    stage.settle()
    stage.settle(name="second")
    assert credentials.items() <= stage.secrets().items()


@pytest.mark.full
def test_a_child_that_is_orphaned(stage: Stage) -> None:
    uid = stage.create()["metadata"]["uid"]
    stage.settle()
    for kind, child in stage.children():
        patch = {"metadata": {"ownerReferences": None}}
        stage.api.patch(kind, stage.ns, child["metadata"]["name"], patch)

    def is_owned() -> bool:
        found = [o["metadata"].get("ownerReferences", [{}]) for _, o in stage.children()]
        return {reference.get("uid") for (reference,) in found} == {uid}

    eventually(is_owned, timeout=PATIENCE)


@pytest.mark.full
def test_another_field_manager_takes_a_field_by_force(stage: Stage) -> None:
    stage.create()
    stage.settle()
    path = stage.api.path("Deployment", stage.ns, "demo-app")

    def image() -> str:
        container = stage.api.call("GET", path)["spec"]["template"]["spec"]["containers"][0]
        return str(container["image"])

    mine = image()
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": {"template": {"spec": {"containers": [{"name": "app", "image": "theirs:1"}]}}},
    }
    for _ in range(3):
        stage.api.apply(path, theirs)
        eventually(lambda: image() == mine, timeout=PATIENCE)
    for _ in range(20):
        stage.api.apply(path, theirs)
        time.sleep(0.1)
    eventually(lambda: stage.condition("Stalled").get("reason") == "Contested", timeout=PATIENCE)
    assert "spec.template.spec.containers[app].image" in stage.condition("Stalled")["message"]
    stage.settle()
    assert image() == mine, "once the other one gives in, all is well without a person"


@pytest.mark.full
def test_a_webhook_that_denies_or_is_not_there(stage: Stage, webhook: Webhook) -> None:
    webhook.install(stage)
    stage.create()
    eventually(lambda: stage.condition("Stalled").get("reason") == "Rejected", timeout=PATIENCE)
    assert "no Services on Tuesdays" in stage.condition("Stalled")["message"]
    assert len(stage.workloads()) == 5, "the rest is made all the same"
    webhook.close()

    def says_so() -> bool:
        message = stage.condition("Stalled")["message"]
        return "failed calling webhook" in message and "no Services" not in message

    eventually(says_so, timeout=PATIENCE)
    webhook.uninstall(stage)
    stage.settle()


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
def test_a_resource_full_of_nonsense(stage: Stage) -> None:
    """Each piece is named: by the API server at once, or on the resource by the operator."""

    def stalled(name: str) -> bool:
        return bool(stage.condition("Stalled", name).get("status") == "True")

    for number, (spec, said) in enumerate(NONSENSE):
        name = f"nonsense-{number}"
        answer = stage.api.try_create("MetisRAG", stage.ns, resource_of(name, spec))
        if answer.status_code < 400:
            eventually(lambda n=name: stalled(n), timeout=60)
            told = stage.condition("Stalled", name)["message"]
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
    answer = stage.api.try_create("MetisRAG", stage.ns, resource_of("all-at-once", everything))
    assert answer.status_code == 422
    assert len(answer.json()["details"]["causes"]) >= 5, "all is named at once"
    stage.create()
    stage.settle()


def uids(stage: Stage) -> set[str]:
    return {child["metadata"]["uid"] for _, child in stage.children()}


def resource_of(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "metisrag.dev/v1alpha1",
        "kind": "MetisRAG",
        "metadata": {"name": name},
        "spec": spec,
    }


@pytest.mark.full
def test_a_custom_resource_definition_removed_and_put_back(stage: Stage) -> None:
    stage.create()
    stage.settle()
    before, credentials = uids(stage), stage.secrets()
    definition = copy.deepcopy(stage.api.call("GET", CRD))
    stage.api.call("DELETE", CRD)
    eventually(lambda: stage.api.http.get(CRD).status_code == 404, timeout=PATIENCE)
    assert uids(stage) == before, "the operator deletes nothing on its own"
    kept = ("name", "annotations", "labels")
    definition = {
        "apiVersion": definition["apiVersion"],
        "kind": definition["kind"],
        "metadata": {k: v for k, v in definition["metadata"].items() if k in kept},
        "spec": definition["spec"],
    }
    stage.api.apply(CRD, definition)

    def made_again() -> dict[str, Any]:
        return stage.create()

    eventually(made_again, timeout=PATIENCE)
    is_whole(stage, stage.settle())
    assert stage.secrets() == credentials
