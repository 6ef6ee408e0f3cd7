"""Where the Mem0 keys come from and how a change of the mounted Secret is followed."""

import hashlib

import pytest

from app.rag.mem0_keys import FixedKey, MountedKeys, fingerprint, recognises


def mount(directory, version, **files):
    """Swap the files of ``directory`` in one step, as the kubelet does."""
    target = directory / f"..{version}"
    target.mkdir()
    for name, text in files.items():
        (target / name).write_text(text)
    link = directory / "..data_tmp"
    link.symlink_to(target.name)
    link.replace(directory / "..data")
    for name in ("current", "previous"):
        path = directory / name
        if name in files and not path.is_symlink():
            path.symlink_to(f"..data/{name}")
        if name not in files and path.is_symlink():
            path.unlink()


def test_a_fingerprint_is_the_start_of_the_sha256():
    assert fingerprint("mk_secret") == hashlib.sha256(b"mk_secret").hexdigest()[:12]


@pytest.mark.parametrize(
    ("key", "held"), [("mk_a", ("mk_a",)), (" mk_a\n", ("mk_a",)), ("", ()), ("  ", ()), (None, ())]
)
def test_a_fixed_key_is_held_without_its_blanks(key, held):
    assert FixedKey(key).held() == held


def test_a_mounted_secret_is_followed_through_a_rotation(tmp_path):
    keys = MountedKeys(tmp_path)
    assert keys.held() == ()
    mount(tmp_path, 1, current="mk_a\n")
    assert keys.held() == ("mk_a",)
    mount(tmp_path, 2, current="mk_b", previous="mk_a")
    assert keys.held() == ("mk_b", "mk_a")
    mount(tmp_path, 3, current="mk_b")
    assert keys.held() == ("mk_b",)


def test_a_file_changed_in_place_is_followed_too(tmp_path):
    keys = MountedKeys(tmp_path)
    (tmp_path / "current").write_text("mk_a")
    assert keys.held() == ("mk_a",)
    (tmp_path / "current").write_text("mk_longer")
    assert keys.held() == ("mk_longer",)


def test_the_same_key_twice_is_one_key(tmp_path):
    mount(tmp_path, 1, current="mk_a", previous="mk_a")
    assert MountedKeys(tmp_path).held() == ("mk_a",)


def test_files_that_are_gone_or_empty_for_a_moment_leave_the_last_keys_in_use(tmp_path):
    keys = MountedKeys(tmp_path)
    mount(tmp_path, 1, current="mk_a")
    assert keys.held() == ("mk_a",)
    mount(tmp_path, 2)
    assert keys.held() == ("mk_a",)
    mount(tmp_path, 3, current="")
    assert keys.held() == ("mk_a",)
    mount(tmp_path, 4, current="mk_b")
    assert keys.held() == ("mk_b",)


def test_every_key_held_is_recognised_and_no_other(tmp_path):
    mount(tmp_path, 1, current="mk_b", previous="mk_a")
    keys = MountedKeys(tmp_path)
    assert recognises(keys, "mk_a")
    assert recognises(keys, "mk_b")
    assert not recognises(keys, "mk_")
    assert not recognises(keys, "")
    assert not recognises(FixedKey(None), "")
    assert not recognises(keys, "schlüssel")
