"""What Helm says after an install, and what Artifact Hub shows, is true for the chosen mode."""

from __future__ import annotations

import json
import os

import pytest
import yaml

ALONE = {"operator": {"enabled": False}, "instance": {"create": False}}
INGRESS = {"ingress": {"enabled": True, "host": "rag.example.com", "tlsSecret": "rag-tls"}}


@pytest.fixture
def notes(helm):
    def read(values, chart="."):
        arguments = ("demo", chart, "-n", "rag", "--dry-run=client", "-f", "-")
        return helm("install", *arguments, stdin=json.dumps(values)).partition("NOTES:\n")[2]

    return read


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, ["kept by the operator", "port-forward service/demo-app", "get secret demo-auth"]),
        ({"instance": {"create": False}}, ["Make an instance in any namespace"]),
        (
            ALONE | {"stack": {"enabled": True}},
            [
                "without an operator",
                "rollout status",
                "CronJob demo-rotator",
                "kubectl metis rotate --release demo -n rag --wait",
            ],
        ),
        ({"instance": {"spec": {"app": INGRESS}}}, ["URL=https://rag.example.com"]),
        (
            ALONE | {"stack": {"enabled": True, "app": INGRESS, "auth": {"mode": "none"}}},
            ["URL=https://rag.example.com", "No key is asked for"],
        ),
        ({"operator": {"defaults": {"app": INGRESS}}}, ["URL=https://rag.example.com"]),
    ],
)
def test_the_next_command_is_that_of_the_mode(notes, values, words):
    text = notes(values)
    for word in words:
        assert word in text


GOLDEN = (
    "default", "operator-only", "platform-defaults", "solo", "solo-auth-none",
    "solo-existing-secret", "solo-nodeport", "solo-preload", "solo-published", "solo-suspended",
)  # fmt: skip


@pytest.mark.parametrize("mode", GOLDEN)
def test_the_whole_text_is_as_it_was_read_and_approved(notes, root, mode):
    values = yaml.safe_load((root / f"tests/fixtures/values/{mode}.yaml").read_text())
    text = notes(values)
    if own := values.get("stack"):
        alone = notes({k: v for k, v in own.items() if k != "enabled"}, "charts/stack")
        text += f"\n=== charts/stack by itself ===\n{alone}"
    golden = root / f"tests/fixtures/notes/{mode}.txt"
    if os.environ.get("METIS_GOLDEN") == "write":
        golden.write_text(text)
    assert text == golden.read_text(), "read the difference, then METIS_GOLDEN=write pytest …"


def test_the_stack_alone_says_the_same(notes):
    text = notes({"app": INGRESS}, "charts/stack")
    assert "URL=https://rag.example.com" in text
    assert "kubectl metis rotate --release demo -n rag --wait" in text


def test_the_stack_alone_says_what_it_cannot_do(notes):
    gpu = {"enabled": True, "resourceName": "amd.com/gpu", "fallback": "cpu"}
    said = notes({"ollama": {"gpu": gpu}}, "charts/stack")
    assert "1 amd.com/gpu, in the image ollama/ollama:0.17.4-rocm" in said
    assert "fallback=cpu has no effect without an operator" in said
    assert "fallback" not in notes({"ollama": {"gpu": gpu | {"fallback": "none"}}}, "charts/stack")


def test_artifact_hub_is_told_what_the_chart_holds(root, render):
    chart = yaml.safe_load((root / "Chart.yaml").read_text())
    told = {
        name.removeprefix("artifacthub.io/"): yaml.safe_load(text)
        for name, text in chart["annotations"].items()
    }
    (crd,) = told["crds"]
    assert (crd["kind"], crd["name"]) == ("MetisRAG", "metisrags.metisrag.dev")
    (example,) = told["crdsExamples"]
    render({"instance": {"spec": example["spec"]}})  # the schema admits it
    used = {
        container["image"]
        for values in ({}, ALONE | {"stack": {"enabled": True}})
        for _, template in render(values).pods()
        for container in template["spec"]["containers"]
    }
    assert {image["image"] for image in told["images"]} == used
