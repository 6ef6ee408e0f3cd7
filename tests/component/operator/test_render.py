"""The real chart through the real Helm."""

from __future__ import annotations

import asyncio
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
    assert runs() == before + 2


PLACES = [("demo", "team"), ("a", "a"), ("app", "metis"), ("m" * 37, "n" * 63), ("mem0", "demo")]


@pytest.mark.parametrize("values", [{}, {"app": {"podLabels": {"team": "demo-team"}}}])
async def test_releases_of_the_same_values_share_a_rendering(values: dict[str, object]) -> None:
    shared, before = Renderer(STACK, HELM), runs()
    found = await asyncio.gather(*(shared.render(*place, values) for place in PLACES))
    assert runs() == before + 2, "Helm ran for the first, and for all the others"
    for place, documents in zip(PLACES, found, strict=True):
        assert documents == await Renderer(STACK, HELM).render(*place, values)


async def test_a_chart_that_looks_at_the_name_is_rendered_for_each(tmp_path: Path) -> None:
    copy = tmp_path / "stack"
    shutil.copytree(STACK, copy)
    (copy / "templates" / "long.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\n"
        "data: {digest: {{ sha256sum .Release.Name }}}\n"
    )
    shared = Renderer(copy, HELM)
    for place in PLACES:
        found = await shared.render(*place, {})
        assert found == await Renderer(copy, HELM).render(*place, {})


async def test_values_with_a_placeholder_in_them_are_rendered_for_each() -> None:
    values = {"app": {"podLabels": {"team": "placeholder-of-name"}}}
    shared = Renderer(STACK, HELM)
    for place in PLACES[:3]:
        found = await shared.render(*place, values)
        assert found == await Renderer(STACK, HELM).render(*place, values)


async def test_what_is_not_asked_for_any_more_is_forgotten_first() -> None:
    renderer = Renderer(STACK, HELM, capacity=1)
    one, two = ({"models": {"chat": name}} for name in ("one", "two"))
    await renderer.render("demo", "team", one)
    await renderer.render("demo", "team", two)
    before = runs()
    await renderer.render("demo", "team", two)
    await renderer.render("demo", "team", one)
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
