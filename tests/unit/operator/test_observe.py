from __future__ import annotations

from contextlib import suppress
from typing import Any

from metis_operator.core import names
from metis_operator.core.objects import METISRAG, POD, SECRET, SERVICE, Key
from metis_operator.observe import Instance, Store, pack, slim

DEMO = Instance("team", "demo")


def service(
    name: str = "demo-app", version: int = 1, uid: str = "u1", **meta: Any
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": uid,
            "resourceVersion": str(version),
            "labels": {names.LABEL_INSTANCE: "demo"},
            **meta,
        }
    }


KEY = Key(SERVICE, "team", "demo-app")


def test_news_concerns_the_instance_of_its_label() -> None:
    store = Store()
    assert store.put(SERVICE, service()) == DEMO
    assert list(store.children(DEMO)) == [KEY]
    assert store.put(SERVICE, service(labels={})) is None


def test_only_what_is_newer_is_news() -> None:
    store = Store()
    store.put(SERVICE, service(version=10))
    assert store.put(SERVICE, service(version=10)) is None
    assert store.put(SERVICE, service(version=9)) is None
    assert store.put(SERVICE, service(version=11)) == DEMO
    assert store.put(SERVICE, service(version=3, uid="u2")) == DEMO, "made anew"


def test_a_late_event_of_a_former_object_does_not_drop_its_successor() -> None:
    store = Store()
    store.put(SERVICE, service(uid="u2"))
    assert store.drop(SERVICE, service(uid="u1")) is None
    assert KEY in store.children(DEMO)
    assert store.drop(SERVICE, service(uid="u2")) == DEMO
    assert not store.children(DEMO)


def test_a_list_replaces_what_was_missed() -> None:
    store = Store()
    store.put(SERVICE, service("a", uid="a"))
    store.put(SERVICE, service("b", uid="b"))
    assert store.replace(SERVICE, [pack(SERVICE, service("a", uid="a"))], "5") == {DEMO}
    assert [k.name for k in store.children(DEMO)] == ["a"]
    assert store.replace(SERVICE, [], "5", "elsewhere") == set()
    assert store.children(DEMO)


def test_what_is_known_beside_a_list() -> None:
    store = Store()
    store.put(SERVICE, service("a", uid="a"))
    assert not store.has_others(SERVICE, {"a", "b"})
    assert store.has_others(SERVICE, {"b"})
    assert not store.has_others(SECRET, set())


def test_what_is_settled_is_so_until_it_changes() -> None:
    store = Store()
    store.settle(KEY, "one", service(version=1))
    assert not store.is_settled(KEY, "one"), "it is not known"
    store.put(SERVICE, service(version=1))
    store.settle(KEY, "one", service(version=1))
    assert store.is_settled(KEY, "one")
    assert not store.is_settled(KEY, "other")
    store.put(SERVICE, service(version=1))
    assert store.is_settled(KEY, "one"), "no news"
    store.put(SERVICE, service(version=2))
    assert not store.is_settled(KEY, "one")
    store.settle(KEY, "one", service(version=1))
    assert not store.is_settled(KEY, "one"), "it was looked at before it changed"
    store.settle(KEY, "one", service(version=2))
    assert store.is_settled(KEY, "one")
    store.drop(SERVICE, service(version=3))
    assert not store.is_settled(KEY, "one")


def test_what_is_told_during_our_own_writing_is_heard_after_the_answer() -> None:
    store, heard = Store(), list[str]()
    other = Key(SERVICE, "team", "other")
    with store.writing(KEY, other):
        store.when_written(KEY, lambda: heard.append("first"))
        store.when_written(KEY, lambda: heard.append("second"))
        store.when_written(Key(SECRET, "team", "demo-app"), lambda: heard.append("else"))
        assert heard == ["else"]
        with store.writing(KEY):
            pass
        assert heard == ["else"], "it is still being written"
    assert heard == ["else", "first", "second"]
    store.when_written(KEY, lambda: heard.append("after"))
    assert heard[-1] == "after"


def test_a_failed_write_keeps_nothing_from_being_heard() -> None:
    store, heard = Store(), list[str]()
    with suppress(ValueError), store.writing(KEY):
        store.when_written(KEY, lambda: heard.append("it"))
        raise ValueError("refused")
    assert heard == ["it"]


def test_what_went_while_a_list_or_an_answer_was_on_its_way_stays_gone() -> None:
    store = Store()
    store.put(SERVICE, service(version=1))
    store.drop(SERVICE, service(version=3))
    assert store.replace(SERVICE, [pack(SERVICE, service(version=1))], "1") == set()
    assert store.put(SERVICE, service(version=2)) is None
    assert not store.children(DEMO)


def test_an_answer_that_comes_after_the_end_makes_no_ghost() -> None:
    store = Store()
    assert store.drop(SERVICE, service(version=3)) is None, "the end came before the beginning"
    assert store.put(SERVICE, service(version=2)) is None


def test_what_lost_its_label_and_got_it_back_is_there_again() -> None:
    store = Store()
    store.put(SERVICE, service(version=1))
    store.drop(SERVICE, service(version=2))
    assert store.put(SERVICE, service(version=3)) == DEMO
    assert KEY in store.children(DEMO)


def test_what_was_made_after_a_list_is_not_dropped_by_it() -> None:
    store = Store()
    store.put(SERVICE, service(version=10))
    assert store.replace(SERVICE, [], "9") == set()
    assert KEY in store.children(DEMO)
    assert store.replace(SERVICE, [], "10") == {DEMO}
    assert store.put(SERVICE, service(version=10)) is None, "the list knew more"


def test_a_child_that_changes_its_label_concerns_its_former_instance() -> None:
    store = Store()
    store.put(SERVICE, service(version=1))
    moved = service(version=2, labels={names.LABEL_INSTANCE: "other"})
    assert store.put(SERVICE, moved) == DEMO
    assert not store.children(DEMO)
    assert KEY in store.children(Instance("team", "other"))
    assert store.put(SERVICE, service(version=3, labels={})) == Instance("team", "other")
    assert not store.children(Instance("team", "other"))


def test_children_outlive_the_last_resource() -> None:
    store = Store()
    store.put(METISRAG, service("demo", uid="cr"))
    store.put(SERVICE, service())
    store.drop(METISRAG, service("demo", uid="cr", version=9))
    assert KEY in store.children(DEMO)


def test_resources_are_no_children() -> None:
    store = Store()
    store.put(METISRAG, service("demo"))
    assert store.resources() == [DEMO]
    assert store.resource(DEMO) is not None
    assert not store.children(DEMO)
    store.drop(METISRAG, service("demo"))
    assert store.resource(DEMO) is None


def test_no_secret_value_is_kept() -> None:
    kept = slim(SECRET, service() | {"data": {"password": "aHVudGVyMg=="}})
    assert kept["data"] == {"password": ""}
    assert "aHVudGVyMg" not in repr(kept)


def test_of_a_pod_only_what_the_status_needs_is_kept() -> None:
    pod = service(managedFields=[{}]) | {
        "spec": {
            "nodeName": "n",
            "containers": [{"name": "a", "image": "i", "env": [{"name": "x"}], "volumeMounts": []}],
            "volumes": [{}],
        },
        "status": {"phase": "Running"},
    }
    kept = slim(POD, pod)
    assert kept["spec"] == {"nodeName": "n", "containers": [{"name": "a", "image": "i"}]}
    assert "managedFields" not in kept["metadata"]
    assert kept["status"] == {"phase": "Running"}


def test_phases_are_counted_and_a_view_unpacks_what_is_looked_at() -> None:
    store = Store()
    ready = service("demo", uid="cr") | {"status": {"phase": "Ready"}}
    store.put(METISRAG, ready)
    assert store.phases["Ready"] == 1
    store.put(METISRAG, service("demo", uid="cr", version=2) | {"status": {"phase": "Failed"}})
    assert (store.phases["Ready"], store.phases["Failed"]) == (0, 1)
    store.drop(METISRAG, service("demo", uid="cr", version=3))
    assert store.phases["Failed"] == 0
    store.put(SERVICE, service() | {"spec": {"ports": [{"port": 1}]}})
    view = store.children(DEMO)
    assert (len(view), list(view), KEY in view) == (1, [KEY], True)
    assert view[KEY]["spec"] == {"ports": [{"port": 1}]}


def test_what_kubectl_left_in_an_annotation_is_not_kept_twice() -> None:
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "1"}
    kept = slim(METISRAG, service("demo", annotations=annotations))
    assert kept["metadata"]["annotations"] == {"mine": "1"}
