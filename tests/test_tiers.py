"""The quick tier and the thorough one: what `tiers` says is of tests that are there."""

from fnmatch import fnmatchcase

import pytest
import tiers
from tiers import LIMIT, REPRESENTATIVES, SECONDS, is_representative, is_thorough, pattern_of

NO_QUICK_TEST = {
    "tests/app/test_memory_held.py",
    "tests/browser/test_export_live.py",
    "tests/browser/test_far_away.py",
    "tests/browser/test_overtaken.py",
    "tests/browser/test_sensitivity_live.py",
    "tests/browser/test_walk.py",
}


def file_of(nodeid):
    return nodeid.partition("::")[0]


@pytest.fixture(scope="session")
def files(collected):
    """The files that were collected with this one: all of them where all tests run."""
    return {file_of(name) for name in collected}


def test_every_recorded_test_is_there(collected, files):
    """A test that was renamed would become quick unnoticed: rename it in tests/seconds.json too."""
    assert {name for name in SECONDS if file_of(name) in files} <= set(collected)


@pytest.mark.parametrize("pattern", REPRESENTATIVES)
def test_every_representative_is_there(pattern, collected, files):
    if not any(fnmatchcase(file, f"*/{file_of(pattern)}") for file in files):
        pytest.skip("its file was not collected")
    assert any(fnmatchcase(name, pattern_of(pattern)) for name in collected)


def test_every_file_keeps_a_quick_test(collected, files):
    assert files - {file_of(name) for name in collected if not is_thorough(name)} <= NO_QUICK_TEST


def test_what_took_long_is_thorough_but_for_representatives():
    longer = {name for name, seconds in SECONDS.items() if seconds > LIMIT}
    assert any(map(is_representative, longer))
    assert all(is_thorough(name) != is_representative(name) for name in longer)
    assert not any(map(is_thorough, set(SECONDS) - longer))
    assert not is_thorough("tests/test_new.py::test_new[1]")


def test_what_is_recorded_replaces_what_was_known_and_forgets_what_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(tiers, "SECONDS", {"a.py::slower": 1.0, "a.py::left_out": 2.0, "a.py::gone": 3.0})
    monkeypatch.setattr(tiers, "SECONDS_FILE", tmp_path / "seconds.json")
    tiers.record({"a.py::slower": 4.04, "a.py::fast": 0.01}, {"a.py::slower", "a.py::left_out", "a.py::fast"})
    assert tiers.recorded(tmp_path / "seconds.json") == {"a.py::left_out": 2.0, "a.py::slower": 4.0}


def test_a_bracket_is_the_names_and_a_second_one_a_set():
    assert fnmatchcase("tests/a/test_x.py::test[resnet-1]", pattern_of("test_x.py::test[[!av]*-1]"))
    assert not fnmatchcase("tests/a/test_x.py::test[vgg-1]", pattern_of("test_x.py::test[[!av]*-1]"))
