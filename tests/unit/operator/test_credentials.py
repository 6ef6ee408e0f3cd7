from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from metis_operator.core import credentials, names
from metis_operator.core.credentials import ALL, AUTH, Amend, Create
from metis_operator.core.objects import Object, Owner


class Dice:
    """A random source that never says the same twice and is the same in every run."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, size: int) -> str:
        self.count += 1
        raw = hashlib.sha256(str(self.count).encode()).digest()[:size]
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def plan(observed: dict[str, Object], **kwargs: Any) -> list[Create | Amend]:
    return credentials.plan("demo", "team", ALL, observed, Dice(), **kwargs)


def made(**kwargs: Any) -> dict[str, Object]:
    """All Secrets as they are after a first plan was carried out."""
    found = {}
    for action in plan({}, **kwargs):
        assert isinstance(action, Create)
        meta = {**action.obj["metadata"], "uid": f"uid-{action.name}", "resourceVersion": "5"}
        found[action.name] = {**action.obj, "metadata": meta}
    return found


def values(secret: Object) -> dict[str, str]:
    return {k: base64.b64decode(v).decode() for k, v in secret["data"].items()}


def test_everything_is_made_once_with_the_right_keys() -> None:
    secrets = made()
    assert sorted(secrets) == ["demo-auth", "demo-mem0-db", "demo-mem0-key", "demo-metis-db"]
    assert values(secrets["demo-metis-db"])["username"] == "metis_app_a"
    assert values(secrets["demo-mem0-db"])["username"] == "mem0_app_a"
    assert len(values(secrets["demo-mem0-db"])["password"]) == 43
    assert values(secrets["demo-mem0-key"])["current"].startswith("mk_")
    assert len(values(secrets["demo-mem0-key"])["current"]) == 46
    generated = [v for s in secrets.values() for k, v in values(s).items() if "user" not in k]
    assert len(set(generated)) == len(generated)
    for secret in secrets.values():
        assert secret["metadata"]["labels"][names.LABEL_CREDENTIALS] == "true"
        assert "ownerReferences" not in secret["metadata"]
    assert plan(secrets) == []


def test_a_git_ops_tool_that_tracks_by_label_is_told_to_leave_them_alone() -> None:
    secrets = made()
    for secret in secrets.values():
        notes = secret["metadata"]["annotations"]
        assert notes["argocd.argoproj.io/compare-options"] == "IgnoreExtraneous"
        assert "Prune=false" in notes["argocd.argoproj.io/sync-options"]
    # One made by an earlier version is told so, too; what somebody chose otherwise stays.
    secrets["demo-auth"]["metadata"]["annotations"] = {
        "argocd.argoproj.io/sync-options": "Prune=confirm"
    }
    (amend,) = plan(secrets)
    assert isinstance(amend, Amend)
    assert "data" not in amend.patch
    assert amend.patch["metadata"]["annotations"] == {
        "argocd.argoproj.io/compare-options": "IgnoreExtraneous",
        "argocd.argoproj.io/sync-options": "Prune=confirm",
    }


def test_the_app_is_given_the_hash_of_the_admin_s_key() -> None:
    auth = values(made()["demo-auth"])
    admin, checks = (
        hashlib.sha256(auth[key].encode()).hexdigest() for key in ("admin-key", "test-key")
    )
    assert json.loads(auth["keys.json"]) == {
        "keys": [
            {"user": "admin", "role": "admin", "sha256": admin},
            {"user": "helm-test", "role": "user", "sha256": checks},
        ]
    }
    assert auth["admin-key"] not in auth["keys.json"]
    assert auth["test-key"] not in auth["keys.json"]


def test_a_missing_key_is_added_and_nothing_that_is_there_is_written() -> None:
    secrets = made()
    del secrets["demo-metis-db"]["data"]["superuser-password"]
    (action,) = plan(secrets)
    assert isinstance(action, Amend)
    assert list(action.patch["data"]) == ["superuser-password"]
    assert action.patch["metadata"]["resourceVersion"] == "5"


def test_a_lost_key_file_is_made_for_the_key_that_is_there() -> None:
    secrets = made()
    key = values(secrets["demo-auth"])["admin-key"]
    del secrets["demo-auth"]["data"]["keys.json"]
    (action,) = plan(secrets)
    assert isinstance(action, Amend)
    written = base64.b64decode(action.patch["data"]["keys.json"]).decode()
    assert hashlib.sha256(key.encode()).hexdigest() in written


def test_a_key_file_of_an_earlier_version_gets_the_user_of_checks_beside_its_own() -> None:
    secrets = made()
    data = secrets["demo-auth"]["data"]
    del data["test-key"]
    own = {"keys": [{"user": "eve", "role": "user", "sha256": "0" * 64}]}
    data["keys.json"] = base64.b64encode(json.dumps(own).encode()).decode()
    (action,) = plan(secrets)
    assert isinstance(action, Amend)
    written = values({"data": action.patch["data"]})
    assert set(written) == {"test-key", "keys.json"}
    first, second = json.loads(written["keys.json"])["keys"]
    assert first == own["keys"][0]
    assert second["user"] == "helm-test"
    assert second["sha256"] == hashlib.sha256(written["test-key"].encode()).hexdigest()


def test_a_key_file_that_cannot_be_read_stays_as_it_is() -> None:
    secrets = made()
    del secrets["demo-auth"]["data"]["test-key"]
    for text in (b"{}", b"[1]", b"not json"):
        secrets["demo-auth"]["data"]["keys.json"] = base64.b64encode(text).decode()
        assert plan(secrets) == []


def test_without_the_values_a_missing_key_is_noticed_all_the_same() -> None:
    secrets = made()
    data = secrets["demo-auth"]["data"]
    del data["test-key"]
    data.update(dict.fromkeys(data, ""))
    assert [type(action) for action in plan(secrets)] == [Amend]


def test_somebody_s_own_key_file_is_complete() -> None:
    secrets = made()
    secrets["demo-auth"]["data"] = {"keys.json": base64.b64encode(b"{}").decode()}
    assert plan(secrets) == []


def test_a_second_key_in_the_middle_of_a_rotation_stays() -> None:
    secrets = made()
    secrets["demo-mem0-key"]["data"]["previous"] = "b2xk"
    assert plan(secrets) == []


def test_a_secret_found_without_labels_is_adopted_by_labels_alone() -> None:
    secrets = made()
    secrets["demo-mem0-key"]["metadata"]["labels"] = {"team": "x"}
    (action,) = plan(secrets)
    assert isinstance(action, Amend)
    assert "data" not in action.patch
    assert action.patch["metadata"]["labels"][names.LABEL_INSTANCE] == "demo"


def test_the_deletion_policy_ties_and_unties(owner: Owner) -> None:
    tied = made(owner=owner, tie=True)
    assert all(s["metadata"]["ownerReferences"] == [owner.reference] for s in tied.values())
    assert plan(tied, owner=owner, tie=True) == []
    untied = plan(tied, owner=owner, tie=False)
    assert [a.patch["metadata"]["ownerReferences"] for a in untied if isinstance(a, Amend)] == (
        [[]] * len(ALL)
    )
    kept = made()
    assert plan(kept, owner=owner, tie=False) == []
    assert len(plan(kept, owner=owner, tie=True)) == len(ALL)


def test_somebody_else_s_owner_reference_stays(owner: Owner) -> None:
    secrets = made()
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "y"}
    secrets["demo-auth"]["metadata"]["ownerReferences"] = [other]
    actions = plan(secrets, owner=owner, tie=True)
    patches = {a.name: a.patch for a in actions if isinstance(a, Amend)}
    assert patches["demo-auth"]["metadata"]["ownerReferences"] == [other, owner.reference]


@pytest.mark.parametrize(("name", "purpose"), [("demo-auth", AUTH), ("demo-x", None), ("x", None)])
def test_purposes_by_name(name: str, purpose: str | None) -> None:
    assert credentials.purpose_of("demo", name) == purpose


def test_only_what_pods_mount_is_the_instance_s_own() -> None:
    mounted = {"demo-metis-db", "demo-auth", "somebody-s-login"}
    assert credentials.wanted("demo", mounted) == ["metis-db", "auth"]
