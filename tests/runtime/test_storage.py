"""One writable place, and files that are written whole or not at all."""

import os
from pathlib import Path

import platformdirs
import pytest

from fpgm_core.errors import FpgmError
from fpgm_core.runtime import storage


def test_home_is_the_folder_the_environment_names(monkeypatch, tmp_path):
    monkeypatch.setenv("FPGM_HOME", str(tmp_path / "mine"))
    assert storage.home() == tmp_path / "mine"


@pytest.mark.parametrize("value", [None, ""])
def test_home_is_else_the_users_data_folder(monkeypatch, value):
    monkeypatch.delenv("FPGM_HOME") if value is None else monkeypatch.setenv("FPGM_HOME", value)
    assert storage.home() == Path(platformdirs.user_data_dir("fpgm-explorer", appauthor=False))
    assert storage.home().is_absolute()


def test_a_write_makes_its_folders_and_replaces_what_stood_there(tmp_path):
    path = tmp_path / "a" / "b" / "file.bin"
    for content in (b"first, and longer", b"second", b""):
        storage.write_atomic(path, content)
        assert path.read_bytes() == content
        assert list(path.parent.iterdir()) == [path]


def full_disk(*args):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, step, full_disk)
    with pytest.raises(FpgmError, match=r"cannot write .*file.bin: No space left on device; .*FPGM_HOME"):
        storage.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_until_the_last_moment_readers_see_the_old_file(tmp_path, monkeypatch):
    path, seen = tmp_path / "file.bin", []
    path.write_bytes(b"old")
    replace = os.replace

    def look_then_replace(source, target):
        seen.append((path.read_bytes(), Path(source).read_bytes(), Path(source).parent))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look_then_replace)
    storage.write_atomic(path, b"new")
    assert seen == [(b"old", b"new", tmp_path)]
    assert path.read_bytes() == b"new"


def test_a_folder_that_cannot_be_made_is_an_error_that_names_the_fix(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FpgmError, match="set FPGM_HOME to a writable folder"):
        storage.write_atomic(tmp_path / "file" / "below" / "it.bin", b"x")
