"""Which files make an image, and the tag they give it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hack.cache import ROOT
from hack.images import OWN, Own, content_tag, copied, sources

DOCKERFILE = """\
FROM base AS builder
COPY pyproject.toml uv.lock ./
FROM base AS production
COPY --from=builder /opt/venv /opt/venv
COPY --chown=1:1 app/ \\
     docs /srv/
FROM builder AS development
COPY tests /srv/tests
"""


def test_copied_paths_are_those_of_the_context() -> None:
    assert copied(DOCKERFILE) == ["pyproject.toml", "uv.lock", "app", "docs", "tests"]


def test_stages_after_the_target_do_not_count() -> None:
    assert copied(DOCKERFILE, "production") == ["pyproject.toml", "uv.lock", "app", "docs"]


def test_caches_are_no_sources(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM x\nCOPY app /app\n")
    (tmp_path / "app" / "__pycache__").mkdir(parents=True)
    (tmp_path / "app" / "__pycache__" / "main.cpython-313.pyc").write_bytes(b"")
    (tmp_path / "app" / "main.py").write_text("")
    assert [name for name, _ in sources(tmp_path, "Dockerfile")] == ["Dockerfile", "app/main.py"]


def test_the_tag_follows_contents_names_base_and_target() -> None:
    tags = {
        content_tag({"a": b"1"}, "base", ""),
        content_tag({"a": b"2"}, "base", ""),
        content_tag({"b": b"1"}, "base", ""),
        content_tag({"a": b"1"}, "other", ""),
        content_tag({"a": b"1"}, "base", "production"),
    }
    assert len(tags) == 5
    assert content_tag({"a": b"1", "b": b"2"}, "x", "") == content_tag(
        {"b": b"2", "a": b"1"}, "x", ""
    )
    assert all(tag.startswith("dev-") and len(tag) == 16 for tag in tags)


@pytest.mark.parametrize("image", OWN, ids=lambda image: image.name)
def test_every_image_is_made_of_the_lock_and_its_own_part_only(image: Own) -> None:
    names = [name for name, _ in sources(ROOT, image.dockerfile, image.target)]
    assert {"pyproject.toml", "uv.lock", image.dockerfile} <= set(names)
    parts = {
        "app": ("app/",),
        "mem0": ("mem0_server/",),
        "operator": (
            "operator/",
            "charts/stack/",
            "charts/operator/crds/",
            "hack/kubectl_layer.py",
        ),
    }
    own = parts[image.name]
    assert any(name.startswith(own[0]) and name.endswith(".py") for name in names)
    strangers = [
        n for n in names if not n.startswith(own) and n not in ("pyproject.toml", "uv.lock")
    ]
    assert strangers == []


@pytest.mark.parametrize("image", OWN, ids=lambda image: image.name)
def test_images_run_as_a_number_and_need_no_new_builder(image: Own) -> None:
    text = (ROOT / image.dockerfile).read_text()
    assert "\nUSER 10001:10001\n" in text
    assert text.count("ARG PYTHON_IMAGE=python:3.13-slim") == 1
    for newer in ("--mount=", "--link", "--chmod", "<<", "# syntax"):
        assert newer not in text
