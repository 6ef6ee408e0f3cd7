from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from metis_operator.core.compare import differences, quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1000m", "1"),
        ("1", "1"),
        (2, "2"),
        ("0.5", "0.5"),
        ("500m", "0.5"),
        ("1Gi", "1073741824"),
        ("1024Mi", "1073741824"),
        ("1G", "1000000000"),
        ("1e3", "1000"),
        ("12E", "12e18"),
    ],
)
def test_quantities_are_numbers(text: Any, number: str) -> None:
    assert quantity(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "fast", "1Gb", None, True, [], "Gi"])
def test_what_is_no_quantity(text: Any) -> None:
    assert quantity(text) is None


@pytest.mark.parametrize(
    ("want", "have"),
    [
        # defaults of the API server, and fields of others
        ({"spec": {"type": "ClusterIP"}}, {"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1"}}),
        # empty fields are not stored
        ({"a": "", "b": {}, "c": [], "d": None, "e": False, "f": 0}, {}),
        # quantities are written the server's way
        (
            {"resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}}},
            {"resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
        ),
        ({"emptyDir": {"sizeLimit": "1024Mi"}}, {"emptyDir": {"sizeLimit": "1Gi"}}),
        # lists of named maps: order and further members are others' business
        (
            {"containers": [{"name": "b", "image": "2"}, {"name": "a", "image": "1"}]},
            {
                "containers": [
                    {"name": "sidecar", "image": "9"},
                    {"name": "a", "image": "1", "imagePullPolicy": "Always"},
                    {"name": "b", "image": "2"},
                ]
            },
        ),
        (
            {"volumeMounts": [{"mountPath": "/x", "name": "v"}, {"mountPath": "/y", "name": "v"}]},
            {"volumeMounts": [{"mountPath": "/y", "name": "v"}, {"mountPath": "/x", "name": "v"}]},
        ),
        (
            {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53}]},
            {"ports": [{"port": 53, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]},
        ),
        # a claim template grows a status
        (
            {"volumeClaimTemplates": [{"metadata": {"name": "data"}}]},
            {"volumeClaimTemplates": [{"metadata": {"name": "data"}, "status": {"phase": "P"}}]},
        ),
    ],
)
def test_equal_in_the_server_s_eyes(want: dict[str, Any], have: dict[str, Any]) -> None:
    assert differences(want, have) == []


@pytest.mark.parametrize(
    ("want", "have", "path"),
    [
        ({"spec": {"replicas": 2}}, {"spec": {"replicas": 1}}, "spec.replicas"),
        ({"spec": {"replicas": 0}}, {"spec": {"replicas": 1}}, "spec.replicas"),
        ({"a": False}, {"a": True}, "a"),
        ({"a": 1}, {"a": True}, "a"),
        ({"a": "1"}, {"a": 1}, "a"),
        ({"a": {"b": 1}}, {}, "a"),
        ({"a": {"b": 1}}, {"a": "b"}, "a"),
        ({"args": ["x", "y"]}, {"args": ["y", "x"]}, "args[0]"),
        ({"args": ["x"]}, {"args": ["x", "y"]}, "args"),
        (
            {"containers": [{"name": "a", "image": "1"}]},
            {"containers": [{"name": "a", "image": "2"}]},
            "containers[a].image",
        ),
        ({"containers": [{"name": "a"}]}, {"containers": [{"name": "b"}]}, "containers[a]"),
        # text that looks like a quantity is text
        ({"data": {"cpu": "1000m"}}, {"data": {"cpu": "1"}}, "data.cpu"),
        # these lists are replaced as a whole by the server
        (
            {"tolerations": [{"key": "a"}]},
            {"tolerations": [{"key": "a"}, {"key": "b"}]},
            "tolerations",
        ),
        # a selector with one label more selects other pods
        ({"selector": {"a": "b"}}, {"selector": {"a": "b", "c": "d"}}, "selector.c"),
        (
            {"spec": {"podSelector": {"matchLabels": {"a": "b"}}}},
            {"spec": {"podSelector": {"matchLabels": {"a": "b", "c": "d"}}}},
            "spec.podSelector.matchLabels.c",
        ),
        # so has a network policy with one port more other holes
        (
            {"spec": {"ingress": [{"ports": [{"port": 1, "protocol": "TCP"}]}]}},
            {"spec": {"ingress": [{"ports": [{"port": 1, "protocol": "TCP"}, {"port": 2}]}]}},
            "spec.ingress[0].ports",
        ),
    ],
)
def test_different(want: dict[str, Any], have: dict[str, Any], path: str) -> None:
    assert differences(want, have)[0].path == path
