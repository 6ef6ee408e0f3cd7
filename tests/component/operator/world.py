"""One test's corner of the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tests.component.operator.harness import CHILDREN, Api, Operator, eventually


@dataclass
class World:
    """A namespace of a test's own, seen from outside, and the operator that works in it."""

    api: Api
    operator: Operator
    ns: str

    def create(self, spec: dict[str, Any] | None = None, name: str = "demo") -> dict[str, Any]:
        resource = {
            "apiVersion": "metisrag.dev/v1alpha1",
            "kind": "MetisRAG",
            "metadata": {"name": name},
            "spec": spec or {},
        }
        return self.api.create("MetisRAG", self.ns, resource)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        found = self.api.get(kind, self.ns, name)
        assert found is not None, f"{kind}/{name} is not there"
        return found

    def resource(self, name: str = "demo") -> dict[str, Any]:
        return self.get("MetisRAG", name)

    def change(self, patch: dict[str, Any], name: str = "demo") -> dict[str, Any]:
        return self.api.patch("MetisRAG", self.ns, name, patch)

    def condition(self, kind: str, name: str = "demo") -> dict[str, Any]:
        conditions = self.resource(name)["status"].get("conditions", [])
        return next((c for c in conditions if c["type"] == kind), {})

    def component(self, component: str, name: str = "demo") -> dict[str, Any]:
        found = self.resource(name)["status"].get("components", [])
        return next((c for c in found if c["name"] == component), {})

    def until_phase(self, phase: str, name: str = "demo", *, timeout: float = 20) -> dict[str, Any]:
        """The resource, once the operator has seen its present spec and says ``phase``."""

        def check() -> dict[str, Any] | None:
            found = self.resource(name)
            status = found["status"]
            seen = status.get("observedGeneration") == found["metadata"]["generation"]
            assert seen, status
            assert status.get("phase") == phase, status
            return found

        return dict(eventually(check, timeout=timeout))

    def workloads(self, name: str = "demo") -> list[tuple[str, dict[str, Any]]]:
        selector = f"app.kubernetes.io/instance={name}"
        return [
            (kind, found)
            for kind in ("Deployment", "StatefulSet")
            for found in self.api.all(kind, self.ns, selector)
        ]

    def children(self, name: str = "demo") -> list[tuple[str, dict[str, Any]]]:
        selector = f"app.kubernetes.io/instance={name}"
        return [(k, o) for k in CHILDREN for o in self.api.all(k, self.ns, selector)]

    def play_kubelet(self, name: str = "demo") -> None:
        """Report every workload as rolled out, as the cluster's controllers would."""
        for kind, found in self.workloads(name):
            count = found["spec"]["replicas"]
            status = {
                "observedGeneration": found["metadata"]["generation"],
                "replicas": count,
                "updatedReplicas": count,
                "readyReplicas": count,
                "availableReplicas": count,
            }
            self.api.patch(kind, self.ns, found["metadata"]["name"], {"status": status}, "status")

    def until_made(self, name: str = "demo") -> dict[str, Any]:
        """The resource, once its workloads are there."""
        return self.until_phase("Progressing", name)

    def until_ready(self, name: str = "demo") -> dict[str, Any]:
        self.until_made(name)
        self.play_kubelet(name)
        self.until_phase("Ready", name)
        # The run that wrote this may still have an event to post: wait for one after it.
        self.look_again(name)
        return self.resource(name)

    def pod(
        self,
        component: str,
        spec: dict[str, Any],
        status: dict[str, Any],
        instance: str = "demo",
    ) -> None:
        """A pod of a component with the status that a kubelet or scheduler would give it."""
        name = f"{instance}-{component}-0"
        labels = {
            "app.kubernetes.io/name": "metis-rag",
            "app.kubernetes.io/instance": instance,
            "app.kubernetes.io/component": component,
        }
        pod = {"metadata": {"name": name, "labels": labels}, "spec": spec}
        if self.api.get("Pod", self.ns, name) is None:
            self.api.create("Pod", self.ns, pod)
        self.api.patch("Pod", self.ns, name, {"status": status}, "status")

    def events(self) -> list[tuple[str, str]]:
        """Type and reason of all events about MetisRAGs, in no certain order."""
        found = self.api.all("Event", self.ns)
        about = [e for e in found if e["involvedObject"]["kind"] == "MetisRAG"]
        return [(e["type"], e["reason"]) for e in about]

    def writes(self) -> list[str]:
        """What the operator wrote in this namespace so far."""
        return [w for w in self.api.operator_writes() if f"/namespaces/{self.ns}/" in w]

    def look_again(self, name: str = "demo") -> None:
        """Have the operator reconcile the resource once more, and wait until it has."""
        before = self.operator.metric("metis_operator_reconciles_total")
        stamp = {"metadata": {"annotations": {"test/look-again": uuid4().hex}}}
        self.api.patch("MetisRAG", self.ns, name, stamp)

        def has_looked() -> bool:
            count = self.operator.metric("metis_operator_reconciles_total")
            depth = self.operator.metric("metis_operator_queue_depth")
            assert count > before, f"{count} reconciles, as before"
            assert depth == 0, f"{depth} still wait"
            return True

        eventually(has_looked)
