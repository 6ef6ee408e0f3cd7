"""A world whose operator is started again whenever it ends, behind a proxy that can fail it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.component.operator.control_plane import ControlPlane
from tests.component.operator.harness import Operator, Supervisor, eventually
from tests.component.operator.proxy import Proxy
from tests.component.operator.world import World

PATIENCE = 120.0


@dataclass
class Supervised(World):
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

    def check_whole(self, resource: dict[str, Any]) -> None:
        """All children are there, once, of this resource, and as the status says."""
        children = self.children()
        policies = resource["spec"].get("networkPolicy", {}).get("enabled", True)
        assert policies == any(kind == "NetworkPolicy" for kind, _ in children)
        assert len(self.workloads()) == 5
        for _, child in children:
            (owner,) = child["metadata"]["ownerReferences"]
            assert owner["uid"] == resource["metadata"]["uid"]
        assert len(resource["status"]["inventory"]) == len(children)


@contextmanager
def supervise(
    plane: ControlPlane, operator: Operator, ns: str, folder: Path, port: int
) -> Iterator[Supervised]:
    """The world of ``ns`` with an operator of its own; ``operator`` is stopped."""
    if operator.process is not None and operator.process.poll() is None:
        operator.stop()
    api, proxy = plane.api, Proxy(plane.api)
    mine = Operator(api, operator.wire, folder, port, server=proxy.url)
    supervisor = Supervisor(mine)
    yield Supervised(api, mine, ns, proxy, supervisor)
    supervisor.close()
    proxy.close()
    for left in api.all("MetisRAG", ns):
        api.delete("MetisRAG", ns, left["metadata"]["name"])
    assert "Traceback" not in supervisor.logs(), supervisor.logs()
