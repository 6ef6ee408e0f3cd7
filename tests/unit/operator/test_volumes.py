from __future__ import annotations

from typing import Any

import pytest
from metis_operator.core import names
from metis_operator.core.objects import PVC, STATEFUL_SET, Key, Object
from metis_operator.core.plan import Apply, Replace, plan
from metis_operator.core.volumes import growth, immovable, is_asked_for, pinned

SET = Key(STATEFUL_SET, "team", "demo-metis-postgres")
CLAIM = Key(PVC, "team", "data-demo-metis-postgres-0")


def stateful_set(size: str, storage_class: str = "", image: str = "a") -> Object:
    spec: dict[str, Any] = {"resources": {"requests": {"storage": size}}}
    if storage_class:
        spec["storageClassName"] = storage_class
    return {
        "metadata": {
            "name": SET.name,
            "namespace": "team",
            "uid": "s",
            "labels": {
                names.LABEL_COMPONENT: names.METIS_POSTGRES,
                names.LABEL_MANAGED_BY: names.FIELD_MANAGER,
                names.LABEL_INSTANCE: "demo",
            },
        },
        "spec": {
            "template": {"image": image},
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": spec}],
        },
    }


def claim(size: str, storage_class: str = "standard", phase: str = "Bound") -> Object:
    spec = {"resources": {"requests": {"storage": size}}, "storageClassName": storage_class}
    return {"metadata": {"uid": "c"}, "spec": spec, "status": {"phase": phase}}


def test_a_bound_claim_that_is_too_small_grows() -> None:
    (expand,) = growth({SET: stateful_set("20Gi")}, {CLAIM: claim("10240Mi")})
    assert (expand.key, expand.size, expand.have) == (CLAIM, "20Gi", "10240Mi")
    assert is_asked_for(expand, {"metisPostgres": {"storage": {"size": "20Gi"}}})
    assert not is_asked_for(expand, {"ollama": {"storage": {"size": "20Gi"}}})
    said = expand.refused("only dynamically provisioned pvc can be resized.").message
    assert "stays at 10240Mi instead of 20Gi (storage class standard)" in said
    assert "Set spec.metisPostgres.storage.size back to 10240Mi" in said


@pytest.mark.parametrize(
    "there",
    [
        {},
        {CLAIM: claim("20Gi")},
        {CLAIM: claim("40Gi")},
        {CLAIM: claim("10Gi", phase="Pending")},
        {Key(PVC, "team", "data-demo-metis-postgres-x"): claim("1Gi")},
        {Key(PVC, "team", "backup"): claim("1Gi")},
    ],
)
def test_what_does_not_grow(there: dict[Key, Object]) -> None:
    assert growth({SET: stateful_set("20Gi")}, there) == []


def actions(want: Object, have: Object, there: Object, owner: Any) -> list[Any]:
    observed = {SET: have, CLAIM: there}
    return plan(pinned({SET: want}, observed), observed, [], owner)


def test_the_set_is_made_anew_once_its_claims_have_grown(owner: Any) -> None:
    want, have = stateful_set("20Gi"), stateful_set("10Gi")
    assert actions(want, have, claim("10Gi"), owner) == []
    (action,) = actions(want, have, claim("20Gi"), owner)
    assert isinstance(action, Replace)


def test_a_refused_growth_holds_up_nothing_else(owner: Any) -> None:
    want, have = stateful_set("20Gi", image="b"), stateful_set("10Gi")
    (action,) = actions(want, have, claim("10Gi"), owner)
    assert isinstance(action, Apply)
    assert action.obj["spec"]["template"]["image"] == "b"
    assert want["spec"]["volumeClaimTemplates"][0]["spec"]["resources"] == {
        "requests": {"storage": "20Gi"}
    }, "what was rendered is not changed"


def test_a_smaller_size_leaves_the_volume_and_its_set_alone(owner: Any) -> None:
    assert actions(stateful_set("5Gi"), stateful_set("10Gi"), claim("10Gi"), owner) == []


def test_another_class_is_told_only_when_the_spec_itself_asks_for_it(owner: Any) -> None:
    want, have, there = stateful_set("1Gi", "fast"), stateful_set("1Gi"), claim("1Gi")
    assert actions(want, have, there, owner) == []
    spec = {"metisPostgres": {"storage": {"className": "fast"}}}
    (stall,) = immovable({SET: want}, {CLAIM: there}, spec)
    assert "has the storage class standard, which cannot become fast" in stall.message
    assert immovable({SET: want}, {CLAIM: there}, {}) == [], "a default is for new volumes"


def test_the_class_of_a_claim_that_holds_nothing_may_still_change(owner: Any) -> None:
    want, have = stateful_set("1Gi", "fast"), stateful_set("1Gi", "fsat")
    (action,) = actions(want, have, claim("1Gi", "fsat", phase="Pending"), owner)
    assert isinstance(action, Replace)
