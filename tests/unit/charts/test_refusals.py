"""What cannot work is refused before anything is installed, with words that say what to write."""

from __future__ import annotations

import pytest

SOLO = {"operator": {"enabled": False}, "instance": {"create": False}}


def _stack(**values):
    return SOLO | {"stack": {"enabled": True} | values}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (_stack(modles={}), ["stack:", "'modles' not allowed"]),
        (_stack(app={"replica": 1}), ["/app", "'replica' not allowed"]),
        (_stack(auth={"mode": "open"}), ["/auth/mode", "'keys', 'none'"]),
        (_stack(deletionPolicy="Keep"), ["/deletionPolicy", "'Retain', 'Delete'"]),
        (_stack(app={"replicas": -1}), ["/app/replicas", "minimum"]),
        (_stack(app={"replicas": "two"}), ["/app/replicas", "got string"]),
        (_stack(models={"chat": ""}), ["/models/chat"]),
        (_stack(ollama={"storage": {"size": "many"}}), ["/ollama/storage/size"]),
        (_stack(ollama={"gpu": {"count": 0}}), ["/ollama/gpu/count", "want 1"]),
        (_stack(app={"image": {"digest": "sha256:1"}}), ["/app/image/digest"]),
        (_stack(app={"extraEnv": [{"name": "A", "valueFrom": {}}]}), ["/app/extraEnv/0"]),
        (_stack(app={"service": {"type": "Ingress"}}), ["'ClusterIP', 'NodePort'"]),
        (
            _stack(app={"service": {"nodePort": 30080}}),
            ["app.service.nodePort is 30080", "set the type to NodePort"],
        ),
        (
            _stack(auth={"mode": "none", "existingSecret": "mine"}),
            ["auth.existingSecret", "set auth.mode=keys"],
        ),
        (
            _stack(ollama={"resources": {"limits": {"nvidia.com/gpu": 1}}}),
            ["ollama.resources.limits", "ollama.gpu.enabled=true"],
        ),
        (
            _stack(ollama={"gpu": {"enabled": True, "fallback": "cpu"}}),
            ["stack.ollama.gpu.fallback", "only an operator", "stack.ollama.gpu.enabled=false"],
        ),
        (
            _stack(
                ollama={
                    "gpu": {"enabled": True, "count": 2, "resourceName": "nvidia.com/gpu.shared"}
                }
            ),
            ["ollama.gpu.count is 2", "nvidia.com/gpu.shared", "ollama.gpu.count=1"],
        ),
        (_stack(ollama={"gpu": {"fallback": "none-at-all"}}), ["/gpu/fallback", "'none', 'cpu'"]),
        (_stack(ollama={"gpu": {"memory": "plenty"}}), ["/gpu/memory"]),
        (
            _stack(app={"settings": {"database_password": "x"}}),
            ["app.settings.database_password looks like a secret"],
        ),
        (
            _stack(app={"replicas": 3, "autoscaling": {"enabled": True}}),
            ["app.replicas is 3", "leave app.replicas out"],
        ),
        (
            _stack(mem0={"autoscaling": {"minReplicas": 9}}),
            ["mem0.autoscaling.minReplicas is 9", "raise maxReplicas"],
        ),
        (_stack(app={"ingress": {"enabled": True}}), ["app.ingress.host is empty", "name the"]),
        (_stack(app={"httpRoute": {"enabled": True}}), ["parentRefs is empty", "name the Gateway"]),
        (_stack(image={"architecture": "x86"}), ["/image/architecture", "'amd64', 'arm64'"]),
        (_stack(services={"ipFamilies": ["v6"]}), ["/services/ipFamilies/0"]),
        ({"stack": {"enabled": True}}, ["both make an instance", "instance.create=false"]),
        (SOLO, ["nothing to install"]),
        ({"instanse": {}}, ["'instanse' not allowed"]),
        ({"instance": {"spec": {"modles": {}}}}, ["/instance/spec", "'modles'"]),
        (
            {"instance": {"spec": {"app": {"service": {"type": "x"}}}}},
            ["/instance/spec/app/service"],
        ),
        ({"instance": {"spec": {"credentials": {}}}}, ["'credentials' not allowed"]),
        ({"instance": {"name": "Demo"}}, ["/instance/name"]),
        ({"operator": {"defaults": {"auth": {"mode": "x"}}}}, ["operator:", "/defaults/auth/mode"]),
        ({"operator": {"defaultz": {}}}, ["operator:", "'defaultz' not allowed"]),
    ],
)
def test_refused(render, refused, values, words):
    with pytest.raises(refused) as error:
        render(values)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [("a" * 38, ["38 characters", "at most 37"]), ("1st", ["begin with a lower-case letter"])],
)
def test_a_name_that_the_parts_cannot_carry(stack, refused, name, words):
    with pytest.raises(refused) as error:
        stack(name=name)
    for word in words:
        assert word in str(error.value)


def test_the_longest_name_fits_everywhere(stack):
    name = "a" * 37
    for workload in stack(name=name).kinds("StatefulSet"):
        revision = f"{workload['metadata']['name']}-{'0' * 10}"
        assert len(revision) <= 63


def test_global_values_of_a_parent_are_admitted(render):
    assert render(_stack() | {"global": {"anything": 1}}).manifests
