"""The real chart through the real Helm."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from metis_operator import metrics
from metis_operator.core.manifests import build, mounted_secrets
from metis_operator.core.objects import Owner
from metis_operator.errors import RenderError
from metis_operator.render import HelmUnavailableError, Renderer, digest_of_files

from hack import tools

STACK = Path(__file__).parents[3] / "charts/stack"
HELM = str(tools.helm())
OWNER = Owner("demo", "team", "uid")


def runs() -> float:
    (metric,) = metrics.RENDER_SECONDS.collect()
    return float(next(s.value for s in metric.samples if s.name.endswith("_count")))


async def test_the_stack_becomes_objects_of_one_namespace_without_secrets() -> None:
    objects = build(await Renderer(STACK, HELM).render("demo", "team", {}), OWNER)
    assert {k.namespace for k in objects} == {"team"}
    assert all(k.name.startswith("demo-") for k in objects)
    assert mounted_secrets(objects.values()) == {
        "demo-metis-db",
        "demo-mem0-db",
        "demo-mem0-key",
        "demo-auth",
    }


async def test_the_same_question_runs_helm_once() -> None:
    renderer = Renderer(STACK, HELM)
    before = runs()
    first = await renderer.render("demo", "team", {"models": {"chat": "a", "embedding": "b"}})
    again = await renderer.render("demo", "team", {"models": {"embedding": "b", "chat": "a"}})
    assert first == again
    assert runs() == before + 1
    await renderer.render("demo", "team", {"models": {"chat": "other"}})
    await renderer.render("demo", "elsewhere", {"models": {"chat": "other"}})
    assert runs() == before + 3


async def test_what_is_not_asked_for_any_more_is_forgotten_first() -> None:
    renderer = Renderer(STACK, HELM, capacity=1)
    await renderer.render("one", "team", {})
    await renderer.render("two", "team", {})
    before = runs()
    await renderer.render("two", "team", {})
    await renderer.render("one", "team", {})
    assert runs() == before + 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"modells": {}}, "modells"),
        ({"models": {"chat": 7}}, "/models/chat"),
        ({"auth": {"mode": "none", "existingSecret": "x"}}, "set auth.mode=keys"),
    ],
)
async def test_a_refusal_is_helm_s_own_words_on_one_line(
    values: dict[str, object], said: str
) -> None:
    renderer = Renderer(STACK, HELM)
    with pytest.raises(RenderError) as first:
        await renderer.render("demo", "team", values)
    assert said in str(first.value)
    assert "\n" not in str(first.value)
    before = runs()
    with pytest.raises(RenderError):
        await renderer.render("demo", "team", values)
    assert runs() == before, "a refusal is remembered too"


async def test_helm_that_cannot_run_is_another_matter(tmp_path: Path) -> None:
    with pytest.raises(HelmUnavailableError, match="Cannot run"):
        await Renderer(STACK, "/nowhere/helm").render("demo", "team", {})
    dies = tmp_path / "helm"
    dies.write_text("#!/bin/sh\nkill -9 $$\n")
    dies.chmod(0o755)
    with pytest.raises(HelmUnavailableError, match="was killed"):
        await Renderer(STACK, str(dies)).render("demo", "team", {})


def test_a_chart_s_digest_sees_every_file(tmp_path: Path) -> None:
    copy = tmp_path / "stack"
    shutil.copytree(STACK, copy)
    assert digest_of_files(copy) == digest_of_files(STACK)
    (copy / "templates" / "more.yaml").write_text("")
    assert digest_of_files(copy) != digest_of_files(STACK)
    (copy / "templates" / "more.yaml").rename(copy / "templates" / "less.yaml")
    assert digest_of_files(copy) != digest_of_files(STACK)
