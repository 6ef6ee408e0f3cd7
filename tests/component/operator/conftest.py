"""A real API server, and a real operator process that works against it with its real role.

There is no kubelet and no controller: what those would report is written by the tests, as they
would write it. Everything else is what a cluster does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from lightkube.config.kubeconfig import KubeConfig
from metis_operator.cluster import connect
from metis_operator.credentials import ensure_all

from tests.component.operator.control_plane import ControlPlane, make_namespace
from tests.component.operator.harness import Api, Operator, Wire, eventually
from tests.component.operator.rotating import Stage, a_stage
from tests.component.operator.supervised import Supervised, supervise
from tests.component.operator.world import World


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """A running etcd and kube-apiserver, the operator's role in them."""
    found = ControlPlane(tmp_path_factory.mktemp("control-plane"))
    try:
        found.start()
        yield found
    finally:
        found.close()


@pytest.fixture(scope="session")
def api(plane: ControlPlane) -> Api:
    """The API server, as its administrator sees it."""
    return plane.api


@pytest.fixture
def ns(api: Api) -> str:
    """A namespace of the test's own."""
    return make_namespace(api, f"t-{uuid4().hex[:8]}")


@pytest.fixture(scope="session")
def operator(
    api: Api, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[Operator]:
    """The operator, running; a test that stops it starts it again."""
    process = Operator(
        api,
        Wire(int(api.url.rsplit(":", 1)[1])),
        tmp_path_factory.mktemp("operator"),
        free_port(),
        defaults={"models": {"chat": "small-chat"}, "ollama": {"storage": {"size": "2Gi"}}},
    ).start()
    yield process
    assert process.process is not None
    if process.process.poll() is None:
        process.stop()
    text = process.log.read_text()
    assert "Traceback" not in text, text


@pytest.fixture
def world(api: Api, operator: Operator, ns: str) -> Iterator[World]:
    """A fresh namespace and a running operator; no MetisRAG of it outlives the test."""
    if operator.process is None or operator.process.poll() is not None:
        operator.start()
    yield World(api, operator, ns)

    def is_clean() -> bool:
        # The API server may answer 429 for a while after a change of the CRD.
        for left in api.all("MetisRAG", ns):
            api.delete("MetisRAG", ns, left["metadata"]["name"])
        return True

    eventually(is_clean)


@pytest.fixture
def config(world: World) -> Any:
    """Access to the API server with the operator's role."""
    return KubeConfig.from_file(world.operator.folder / "kubeconfig").get()


@pytest.fixture
async def stage(world: World, config: Any, tmp_path: Path) -> AsyncIterator[Stage]:
    """Pods and Jobs around the credentials of an instance without a MetisRAG."""
    async with connect(config) as cluster:
        await ensure_all(cluster, "solo", world.ns, {})
    with a_stage(world, tmp_path, "solo") as made:
        yield made


@pytest.fixture
def supervised(
    plane: ControlPlane,
    operator: Operator,
    ns: str,
    tmp_path_factory: pytest.TempPathFactory,
    free_port: Callable[[], int],
) -> Iterator[Supervised]:
    """A fresh namespace and an operator that is started again whenever it ends."""
    folder = tmp_path_factory.mktemp("supervised")
    with supervise(plane, operator, ns, folder, free_port()) as found:
        yield found


@pytest.fixture
def wait() -> Callable[..., Any]:
    """``wait(check)`` polls until ``check()`` is truthy and raises no AssertionError."""
    return eventually


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests marked ``last`` behind all others."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)
