from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from metis_operator.core.merge_patch import between, patched, three_way


def test_a_patch_changes_what_differs_and_removes_what_is_gone() -> None:
    before = {"a": 1, "b": 2, "url": "http://old"}
    assert between(before, {"a": 1, "b": 3}) == {"b": 3, "url": None}


LEAVES = st.integers(0, 3) | st.lists(st.integers(0, 1), max_size=2)
STATUSES = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(LEAVES, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
)


@given(before=STATUSES, after=STATUSES)
def test_the_patch_makes_one_status_of_the_other_whatever_they_are(before: Any, after: Any) -> None:
    assert patched(before, between(before, after)) == after


def test_a_merge_patch_without_an_api_server() -> None:
    before = {"a": {"b": 1, "c": [1, 2]}, "d": "x"}
    patch = {"a": {"b": None, "c": [3], "e": {"f": None, "g": 2}}, "d": {"h": 1}}
    assert patched(before, patch) == {"a": {"c": [3], "e": {"g": 2}}, "d": {"h": 1}}
    assert before == {"a": {"b": 1, "c": [1, 2]}, "d": "x"}


def test_a_patch_takes_out_what_a_file_no_longer_says() -> None:
    before = {"app": {"replicas": 2, "podLabels": {"a": "1"}}, "suspend": True}
    after = {"app": {"podLabels": {"b": "2"}}, "mem0": {"replicas": 1}}
    assert three_way(before, after) == {
        "app": {"replicas": None, "podLabels": {"a": None, "b": "2"}},
        "suspend": None,
        "mem0": {"replicas": 1},
    }
