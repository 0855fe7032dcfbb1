"""Counts that several processes raise at once."""

import json
import subprocess
import sys
from contextlib import suppress

import pytest

from fpgm_core.errors import FpgmError
from fpgm_core.runtime.tally import Tally

COUNTING = """
import sys
from pathlib import Path
from fpgm_core.runtime.tally import Tally
tally = Tally(Path(sys.argv[1]))
for _ in range(40):
    tally.add("plan")
"""


def test_counts_are_kept_by_name(tmp_path):
    tally = Tally(tmp_path / "home" / "counts")
    assert tally.count("plan") == 0
    assert not tally.path.exists(), "to look is not to write"
    assert [tally.add("plan") for _ in range(3)] == [1, 2, 3]
    assert tally.add("other") == 1
    assert (Tally(tally.path).count("plan"), tally.count("other"), tally.count("none")) == (3, 1, 0)


def test_what_three_processes_count_at_once_is_all_counted(tmp_path):
    path = tmp_path / "counts"
    counting = [subprocess.Popen([sys.executable, "-c", COUNTING, str(path)]) for _ in range(3)]
    assert [each.wait(120) for each in counting] == [0, 0, 0]
    assert Tally(path).count("plan") == 120


def test_what_a_former_version_counted_goes_on(tmp_path):
    (tmp_path / "sealed.json").write_text(json.dumps({"a": 2, "b": 7}))
    tally = Tally(tmp_path / "counts", former=tmp_path / "sealed.json")
    assert (tally.count("a"), tally.add("b")) == (2, 8)
    assert Tally(tmp_path / "counts", former=tmp_path / "sealed.json").add("b") == 9


@pytest.mark.parametrize("former", ["[1]", "{", '{"a": "many"}', "[" * 100_000])
def test_a_damaged_former_file_counts_nothing(tmp_path, former):
    (tmp_path / "sealed.json").write_text(former)
    assert Tally(tmp_path / "counts", former=tmp_path / "sealed.json").add("a") == 1


def test_no_bit_of_the_file_changes_a_count_unnoticed(tmp_path):
    path = tmp_path / "counts"
    for _ in range(5):
        Tally(path).add("plan")
    whole = path.read_bytes()
    for at in range(0, len(whole), 37):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :])
        with suppress(FpgmError):  # one clear line
            assert Tally(path).count("plan") in (0, 5), at
