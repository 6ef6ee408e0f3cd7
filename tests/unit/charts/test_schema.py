"""The schemas and the reference are what the annotated values say, and are checked in."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from hack.schema import crd
from hack.schema.__main__ import generate
from hack.schema.values import AnnotationError, read

CRD = Path("charts/operator/crds/metisrags.metisrag.dev.yaml")


@pytest.fixture(scope="module")
def definition():
    root = Path(__file__).resolve().parents[3]
    return crd.definition(read(root / "charts/stack/values.yaml"), "1.2.3")


@pytest.fixture
def spec_schema(definition):
    version = definition["spec"]["versions"][0]
    return version["schema"]["openAPIV3Schema"]["properties"]["spec"]


def test_what_is_checked_in_is_up_to_date(root):
    for path, text in generate(root).items():
        assert (root / path).read_text() == text, f"{path}: run `python -m hack.schema`"


def test_the_defaults_meet_their_own_schema(root):
    for chart in (".", "charts/stack", "charts/operator"):
        schema = json.loads((root / chart / "values.schema.json").read_text())
        jsonschema.Draft7Validator.check_schema(schema)
        jsonschema.validate(yaml.safe_load((root / chart / "values.yaml").read_text()), schema)


def test_the_spec_is_the_public_values_key_for_key(root, spec_schema):
    values = yaml.safe_load((root / "charts/stack/values.yaml").read_text())
    del values["credentials"]  # for Helm alone

    def keys(schema):
        return {
            name: keys(child) if "properties" in child else None
            for name, child in schema["properties"].items()
        }

    def compare(wanted, got, path=""):
        assert set(wanted) == set(got), path
        for name, below in got.items():
            if below is not None and name != "resources":
                compare(wanted[name], below, f"{path}.{name}")

    compare(values, keys(spec_schema))


def test_no_default_stands_in_the_spec_and_each_value_is_described(spec_schema):
    def walk(schema, path):
        assert "default" not in schema, path
        for name, child in schema.get("properties", {}).items():
            if not path.endswith(("resources", "items")):
                assert child.get("description"), f"{path}.{name}"
            walk(child, f"{path}.{name}")
        if "items" in schema:
            walk(schema["items"], f"{path}.items")

    walk(spec_schema, "spec")


def test_the_status_begins_unobserved(definition):
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert schema["properties"]["status"]["default"] == {"observedGeneration": -1}


def test_the_examples_are_what_the_schema_admits(root, definition):
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for path in sorted((root / "examples").glob("metisrag*.yaml")):
        example = yaml.safe_load(path.read_text())
        jsonschema.validate(example, schema)
        strict = json.loads((root / "values.schema.json").read_text())
        jsonschema.validate({"instance": {"spec": example["spec"]}}, strict)


def test_the_examples_render(root, render):
    for path in sorted((root / "examples").glob("values-*.yaml")):
        assert render(yaml.safe_load(path.read_text())).manifests
    for path in sorted((root / "examples").glob("metisrag*.yaml")):
        example = yaml.safe_load(path.read_text())
        assert render(example["spec"], "charts/stack", example["metadata"]["name"]).manifests


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\n", "a: write '# -- what it does'"),
        ("# -- Some.\na: null\n", "add '# @type"),
        ("# -- Some.\na: []\n", "add '# @type"),
        ("# -- Some.\n# @tipe string\na: x\n", "@tipe is none of"),
        ("# -- Some.\n# @range 1-9\na: 1\n", "not of the form 1..9"),
        ("# @like b\na: 1\n", "names no value above it"),
        ("# -- B.\nb:\n  # -- C.\n  c: 1\n# @like b\na: {d: 1}\n", "has the keys ['c']"),
    ],
)
def test_a_value_that_is_not_annotated_is_refused(tmp_path, text, words):
    file = tmp_path / "values.yaml"
    file.write_text(text)
    with pytest.raises(AnnotationError) as error:
        read(file)
    assert words in str(error.value)
    assert str(file) in str(error.value)


def test_a_long_description_and_a_value_like_another(tmp_path):
    file = tmp_path / "values.yaml"
    description = "# -- First\n# and second line.\n# @type integer\n# @range 1..9\n"
    file.write_text(f"{description}a: null\n\n# @like a\nb: 5\n")
    first, second = read(file).children
    assert first.description == second.description == "First and second line."
    assert (first.default, second.default, second.range, second.nullable) == (None, 5, (1, 9), True)
