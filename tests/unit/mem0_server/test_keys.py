import hashlib
from pathlib import Path

import pytest

from mem0_server.errors import MissingKeyError, RevokedKeyError, SettingsError, UnknownKeyError
from mem0_server.keys import KeyRing, fingerprint
from mem0_server.settings import Settings

ONE = "mk_first-key-of-the-test"
TWO = "mk_second-key-of-the-test"


def ring(directory: Path) -> KeyRing:
    return KeyRing(Settings(database_url="postgresql://h/d", mem0_api_key_dir=directory))


def test_every_file_is_a_live_key(tmp_path: Path) -> None:
    (tmp_path / "current").write_text(f"{ONE}\n")
    (tmp_path / "previous").write_text(TWO)
    (tmp_path / "..2026_secret_version").mkdir()
    (tmp_path / ".hidden").write_text("mk_hidden-key-of-the-test")
    keys = ring(tmp_path)
    keys.check(ONE.encode())
    keys.check(TWO.encode())
    assert len(keys.fingerprints) == 2
    for refused in (b"mk_hidden-key-of-the-test", ONE.encode() + b"\n", ONE[:-1].encode()):
        with pytest.raises(UnknownKeyError):
            keys.check(refused)
    for nothing in (None, b""):
        with pytest.raises(MissingKeyError):
            keys.check(nothing)


def test_a_refusal_tells_the_fingerprint_and_not_the_key(tmp_path: Path) -> None:
    (tmp_path / "current").write_text(ONE)
    with pytest.raises(UnknownKeyError) as caught:
        ring(tmp_path).check(TWO.encode())
    assert TWO not in caught.value.message
    assert fingerprint(hashlib.sha256(TWO.encode()).digest()) in caught.value.message


def test_placeholders_are_never_live(tmp_path: Path) -> None:
    (tmp_path / "current").write_text("default_dev_key")
    with pytest.raises(SettingsError):
        ring(tmp_path)
    (tmp_path / "previous").write_text(ONE)
    keys = ring(tmp_path)
    with pytest.raises(UnknownKeyError):
        keys.check(b"default_dev_key")


def test_a_directory_that_vanishes_keeps_what_was_live(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    (mount / "current").write_text(ONE)
    keys = ring(mount)
    (mount / "current").unlink()
    mount.rmdir()
    keys.reload()
    keys.check(ONE.encode())
    mount.mkdir()
    keys.reload()
    with pytest.raises(RevokedKeyError):
        keys.check(ONE.encode())


def test_it_tells_how_long_nobody_has_presented_a_key(tmp_path: Path) -> None:
    (tmp_path / "current").write_text(ONE)
    (tmp_path / "previous").write_text(TWO)
    keys = ring(tmp_path)
    keys.check(ONE.encode())
    keys.check(TWO.encode(), counts=False)
    with pytest.raises(UnknownKeyError):
        keys.check(b"mk_a-key-that-nobody-knows")
    assert list(keys.idle) == [fingerprint(hashlib.sha256(ONE.encode()).digest())]
    assert 0 <= keys.idle.popitem()[1] < 10
    (tmp_path / "current").unlink()
    keys.reload()
    assert keys.idle == {}
