"""The plan is a pure function: what holds for every cluster is said here for every cluster."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metis_operator.core import names
from metis_operator.core.manifests import build, digest_of
from metis_operator.core.objects import (
    CONFIG_MAP,
    DEPLOYMENT,
    PVC,
    SECRET,
    SERVICE,
    STATEFUL_SET,
    Key,
    Kind,
    Object,
    Owner,
    of_kind,
)
from metis_operator.core.plan import (
    Action,
    Apply,
    Conflict,
    Keep,
    Prune,
    Replace,
    plan,
    remaining,
)

OWNER = Owner(name="demo", namespace="team", uid="owner-uid")
KINDS = (CONFIG_MAP, SERVICE, DEPLOYMENT, STATEFUL_SET)
NAMES = ("demo-app", "demo-mem0", "demo-ollama")
FATES = ("as applied", "edited", "going", "foreign", "orphaned", "former")


def document(kind: Kind, name: str, **spec: Any) -> Object:
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {"name": name, "labels": {names.LABEL_COMPONENT: name.removeprefix("demo-")}},
        "spec": spec,
    }


def stored(obj: Object, **meta: Any) -> Object:
    """``obj`` as the API server gives it back: with an identity and defaults."""
    live = copy.deepcopy(obj)
    live["metadata"] |= {"uid": f"uid-{obj['metadata']['name']}", "resourceVersion": "7", **meta}
    live["spec"].setdefault("defaulted", "by the server")
    live["status"] = {"replicas": 1}
    return live


documents = st.builds(
    document,
    st.sampled_from(KINDS),
    st.sampled_from(NAMES),
    replicas=st.integers(1, 3),
    serviceName=st.sampled_from(["a", "b"]),
)


def unique(found: list[Object]) -> list[Object]:
    return list({(d["kind"], d["metadata"]["name"]): d for d in found}.values())


renderings = st.lists(documents, max_size=8).map(unique)


@st.composite
def clusters(draw: st.DrawFn) -> dict[Key, Object]:
    """Whatever may be there: ours as applied once, edited since, going, foreign, and data."""
    observed: dict[Key, Object] = {}
    for key, obj in build(draw(renderings), OWNER).items():
        live = stored(obj)
        fate = draw(
            st.sampled_from(["as applied", "edited", "going", "foreign", "orphaned", "former"])
        )
        if fate == "edited":
            live["spec"]["replicas"] = 9
        elif fate == "going":
            live["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        elif fate == "foreign":
            live["metadata"] |= {"ownerReferences": [], "labels": {}, "annotations": {}}
        elif fate == "orphaned":
            live["metadata"]["ownerReferences"] = []
        elif fate == "former":
            live["metadata"]["ownerReferences"][0]["uid"] = "of a former one"
        observed[key] = live
    for kind in (PVC, SECRET):
        for name in draw(st.lists(st.sampled_from(NAMES), unique=True)):
            obj = stored(document(kind, name))
            obj["metadata"] |= {
                "ownerReferences": draw(st.sampled_from([[], [OWNER.reference]])),
                "annotations": {names.ANNOTATION_DIGEST: "x"},
                "labels": {
                    names.LABEL_INSTANCE: "demo",
                    names.LABEL_MANAGED_BY: names.FIELD_MANAGER,
                },
            }
            observed[Key(kind, "team", name)] = obj
    return observed


def carry_out(observed: dict[Key, Object], actions: list[Action]) -> dict[Key, Object]:
    """What the cluster holds afterwards; what was going is gone by then."""
    after = {k: o for k, o in observed.items() if "deletionTimestamp" not in o["metadata"]}
    for action in actions:
        if isinstance(action, Apply):
            after[action.key] = stored(action.obj)
        elif isinstance(action, Prune | Replace):
            after.pop(action.key, None)
    return after


@given(renderings, clusters())
def test_a_plan_carried_out_leaves_nothing_to_do(
    rendered: list[Object], observed: dict[Key, Object]
) -> None:
    desired = build(rendered, OWNER)
    inventory = list(observed)
    for _ in range(2):  # the second round makes anew what had to be replaced, or was going
        observed = carry_out(observed, plan(desired, observed, inventory, OWNER))
    rest = plan(desired, observed, list(desired), OWNER)
    assert [a for a in rest if not isinstance(a, Conflict)] == []
    conflicts = {a.key for a in rest if isinstance(a, Conflict)}
    assert set(desired) - conflicts <= set(observed)


@given(renderings, clusters(), st.randoms(use_true_random=False))
def test_order_does_not_matter(
    rendered: list[Object], observed: dict[Key, Object], chance: random.Random
) -> None:
    inventory = list(observed)
    first = plan(build(rendered, OWNER), observed, inventory, OWNER)
    chance.shuffle(rendered)
    shuffled = list(observed.items())
    chance.shuffle(shuffled)
    chance.shuffle(inventory)
    assert plan(build(rendered, OWNER), dict(shuffled), inventory, OWNER) == first


@given(renderings, clusters())
def test_data_is_never_deleted_and_nobody_else_s_touched(
    rendered: list[Object], observed: dict[Key, Object]
) -> None:
    for action in plan(build(rendered, OWNER), observed, list(observed), OWNER):
        if isinstance(action, Prune | Replace):
            assert action.key.kind not in (PVC, SECRET)
            assert action.uid == observed[action.key]["metadata"]["uid"]
        if not isinstance(action, Conflict) and action.key in observed:
            assert OWNER.claims(observed[action.key])


POLICIES = ("Retain", "Delete")


class Volumes:
    """What a cluster's own controllers do to the claims of StatefulSets, as its objects change."""

    def __init__(self) -> None:
        self.observed: dict[Key, Object] = {}

    def run(self, rendered: list[Object], policy: str, chance: random.Random) -> None:
        """One reconcile; then the StatefulSet controller, which may be late, has its turn."""
        desired = build([self._with(d, policy) for d in rendered], OWNER)
        inventory = [k for k in self.observed if k.kind is not PVC]
        keep = policy == "Retain"
        for action in plan(desired, self.observed, inventory, OWNER, keep_data=keep):
            self._carry_out(action)
        if chance.random() < 0.7:
            self._control()

    def _carry_out(self, action: Action) -> None:
        if isinstance(action, Apply):
            before = self.observed.get(action.key)
            self.observed[action.key] = stored(action.obj)
            if before is None:  # each is another object than the former one of its name
                uid = f"uid-{len(self.observed)}-{id(action)}"
                self.observed[action.key]["metadata"]["uid"] = uid
            else:
                self.observed[action.key]["metadata"]["uid"] = before["metadata"]["uid"]
        elif isinstance(action, Keep):
            self.observed[action.key]["spec"] |= copy.deepcopy(action.patch["spec"])
        elif isinstance(action, Prune | Replace):
            gone = self.observed.pop(action.key)["metadata"]["uid"]
            for key, claim in list(self.claims().items()):
                owners = claim["metadata"]["ownerReferences"]
                if isinstance(action, Replace):  # the pods, and the claims, are orphaned
                    claim["metadata"]["ownerReferences"] = [o for o in owners if o["uid"] != gone]
                elif any(o["uid"] == gone for o in owners):
                    del self.observed[key]

    def _control(self) -> None:
        for key, live in list(self.observed.items()):
            if key.kind is not STATEFUL_SET:
                continue
            claim = self.observed.setdefault(
                Key(PVC, "team", f"data-{key.name}-0"),
                {"metadata": {"name": f"data-{key.name}-0", "uid": "c"}, "spec": {}},
            )
            policy = live["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"]
            reference = {"kind": "StatefulSet", "uid": live["metadata"]["uid"]}
            claim["metadata"]["ownerReferences"] = [reference] if policy == "Delete" else []

    def claims(self) -> dict[Key, Object]:
        return {k: o for k, o in self.observed.items() if k.kind is PVC}

    @staticmethod
    def _with(rendered: Object, policy: str) -> Object:
        if rendered["kind"] != STATEFUL_SET.kind:
            return rendered
        spec = {"persistentVolumeClaimRetentionPolicy": {"whenDeleted": policy}}
        return {**rendered, "spec": {**rendered["spec"], **spec}}


@given(
    st.lists(st.tuples(renderings, st.sampled_from(POLICIES)), min_size=2, max_size=8),
    st.randoms(use_true_random=False),
)
def test_no_plan_deletes_a_volume_that_the_policy_keeps(
    history: list[tuple[list[Object], str]], chance: random.Random
) -> None:
    """However the spec and its policy change, and however late the other controllers are."""
    cluster = Volumes()
    for rendered, policy in history:
        before = set(cluster.claims())
        cluster.run(rendered, policy, chance)
        if policy == "Retain":
            assert before <= set(cluster.claims())
    # Nor does that keep anything from its end.
    for _ in range(4):
        cluster.run([], "Retain", chance)
        cluster._control()
    assert set(cluster.observed) == set(cluster.claims())


def test_a_part_taken_away_as_its_data_is_to_be_kept_goes_in_steps() -> None:
    rendered = document(
        STATEFUL_SET,
        "demo-mem0",
        persistentVolumeClaimRetentionPolicy={"whenDeleted": "Delete", "whenScaled": "Retain"},
    )
    ((key, obj),) = build([rendered], OWNER).items()
    live, claim = stored(obj), Key(PVC, "team", "data-demo-mem0-0")
    tied = {"metadata": {"name": claim.name, "ownerReferences": [{"uid": "uid-demo-mem0"}]}}
    observed = {key: live, claim: tied}
    assert plan({}, observed, [key], OWNER) == [Keep(key, "uid-demo-mem0")]
    assert plan({}, observed, [key], OWNER, keep_data=False) == [Prune(key, "uid-demo-mem0")]
    live["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] = "Retain"
    assert plan({}, observed, [key], OWNER) == [], "until its controller has let go of the claim"
    tied["metadata"]["ownerReferences"] = []
    assert plan({}, observed, [key], OWNER) == [Prune(key, "uid-demo-mem0")]


@given(renderings)
def test_what_is_as_applied_is_left_alone(rendered: list[Object]) -> None:
    desired = build(rendered, OWNER)
    observed = {k: stored(o) for k, o in desired.items()}
    assert plan(desired, observed, list(desired), OWNER) == []


class Unopened(Mapping[Key, Object]):
    """Objects none of which may be looked at."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = list(keys)

    def __getitem__(self, key: Key) -> Object:
        raise AssertionError(f"{key} was looked at")

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


@given(renderings)
def test_what_was_settled_before_is_not_looked_at(rendered: list[Object]) -> None:
    desired = build(rendered, OWNER)
    assert plan(desired, Unopened(desired), list(desired), OWNER, settled=desired) == []
    assert of_kind(Unopened(desired), PVC) == {}
    missing = plan(desired, {}, list(desired), OWNER, settled=set())
    assert {action.key for action in missing} == desired.keys()


@pytest.fixture
def app() -> tuple[Key, Object]:
    (item,) = build([document(DEPLOYMENT, "demo-app", replicas=2)], OWNER).items()
    return item


def test_a_field_no_longer_wanted_is_noticed_by_the_digest(app: tuple[Key, Object]) -> None:
    key, former = app
    desired = build([document(DEPLOYMENT, "demo-app")], OWNER)
    (action,) = plan(desired, {key: stored(former)}, [], OWNER)
    assert isinstance(action, Apply)
    assert names.ANNOTATION_DIGEST in action.reason


def test_an_edit_is_put_back_and_named(app: tuple[Key, Object]) -> None:
    key, obj = app
    live = stored(obj)
    live["spec"]["replicas"] = 5
    (action,) = plan({key: obj}, {key: live}, [key], OWNER)
    assert isinstance(action, Apply)
    assert action.reason == "spec.replicas: 5 instead of 2"


def test_what_the_server_insists_on_is_not_fought_over(app: tuple[Key, Object]) -> None:
    key, obj = app
    live = stored(obj)
    live["spec"]["replicas"] = 5
    tolerated = {key: (digest_of(obj), remaining(obj, live))}
    assert plan({key: obj}, {key: live}, [key], OWNER, tolerated) == []
    live["spec"]["replicas"] = 6
    assert len(plan({key: obj}, {key: live}, [key], OWNER, tolerated)) == 1


@pytest.mark.parametrize(
    ("meta", "holder"),
    [
        (
            {"ownerReferences": [{"kind": "Rollout", "name": "x", "controller": True}]},
            "Rollout x",
        ),
        (
            {
                "ownerReferences": [
                    {
                        "apiVersion": names.API_VERSION,
                        "kind": names.KIND,
                        "name": "other",
                        "controller": True,
                    }
                ]
            },
            "MetisRAG other",
        ),
        (
            {
                "ownerReferences": [],
                "labels": {names.LABEL_MANAGED_BY: "Helm"},
                "annotations": {"meta.helm.sh/release-name": "solo"},
            },
            "the Helm release solo",
        ),
        ({"ownerReferences": [], "labels": {}, "annotations": {}}, "someone else"),
    ],
)
def test_a_conflict_says_whose_it_is(
    app: tuple[Key, Object], meta: dict[str, Any], holder: str
) -> None:
    key, obj = app
    (action,) = plan({key: obj}, {key: stored(obj, **meta)}, [key], OWNER)
    assert isinstance(action, Conflict)
    assert holder in action.holder


def test_a_statefulset_s_immutable_field_asks_for_a_replacement() -> None:
    ((key, obj),) = build([document(STATEFUL_SET, "demo-ollama", serviceName="b")], OWNER).items()
    live = stored(obj)
    live["spec"]["serviceName"] = "a"
    (action,) = plan({key: obj}, {key: live}, [key], OWNER)
    assert isinstance(action, Replace)
    assert [d.path for d in action.differences] == ["spec.serviceName"]


def test_waves_put_what_pods_need_first() -> None:
    rendered = [document(DEPLOYMENT, "demo-app"), document(CONFIG_MAP, "demo-app")]
    actions = plan(build(rendered, OWNER), {}, [], OWNER)
    assert [a.key.kind for a in actions] == [CONFIG_MAP, DEPLOYMENT]
