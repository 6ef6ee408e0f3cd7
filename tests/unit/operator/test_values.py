from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from metis_operator.core.values import get, merge

trees: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.integers(), st.booleans(), st.text(max_size=3), st.lists(st.integers(), max_size=2)
    ),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
specs = st.dictionaries(st.sampled_from("abc"), trees, max_size=3)


def test_the_spec_wins_key_by_key_and_lists_are_whole() -> None:
    defaults = {"ollama": {"storage": {"size": "2Gi"}, "tolerations": [1, 2]}, "x": 1}
    spec = {"ollama": {"storage": {"className": "fast"}, "tolerations": [3]}, "y": 2}
    assert merge(defaults, spec) == {
        "ollama": {"storage": {"size": "2Gi", "className": "fast"}, "tolerations": [3]},
        "x": 1,
        "y": 2,
    }


def test_a_false_or_empty_value_of_the_spec_wins_too() -> None:
    assert merge({"a": True, "b": "x", "c": {"d": 1}}, {"a": False, "b": "", "c": {}}) == {
        "a": False,
        "b": "",
        "c": {"d": 1},
    }


def test_null_is_not_set() -> None:
    assert merge({"a": 1}, {"a": None, "b": None}) == {"a": 1}


@given(specs)
def test_empty_maps_change_nothing(spec: dict[str, Any]) -> None:
    assert merge({}, spec) == spec == merge(spec, {})


@given(specs, specs)
def test_merging_again_changes_nothing_and_inputs_stay(
    defaults: dict[str, Any], spec: dict[str, Any]
) -> None:
    before = repr((defaults, spec))
    once = merge(defaults, spec)
    assert merge(once, spec) == once
    assert repr((defaults, spec)) == before


def test_a_dotted_path() -> None:
    assert get({"a": {"b": 1}}, "a.b") == 1
    assert get({"a": 1}, "a.b", "none") == "none"
