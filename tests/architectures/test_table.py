"""The table of networks people use: made row by row, gone on with, and honest about what went wrong."""

import time

import pytest

from fpgm_core import FpgmError
from fpgm_core.architectures import (
    Subject,
    Trial,
    as_markdown,
    read_table,
    subject,
    subjects,
    summary,
    table_work,
    try_out,
)
from fpgm_core.models import list_models
from fpgm_core.runtime.progress import run

THREE = [Subject("timm", "fast", "one"), Subject("timm", "slow", "two"), Subject("torchvision", "broken", "three")]
GOOD = {"side": 224, "compared_at": 64, "layers": 3, "macs": 2_000_000_000, "counted_macs": 2_000_000_000}
EQUAL = {"independent": "equal", "inner": "-", "coupled": "equal", "onnx": "equal"}


def tried(subject):
    if subject.family == "slow":
        time.sleep(60)
    if subject.family == "broken":
        raise ValueError("of no use")
    return Trial(
        subject.title, subject.family, **GOOD, **EQUAL, prunable=0.995, cut_coupled=0.5, peer_cut=0.4, peer="equal"
    )


def refused(subject):
    raise AssertionError("tried once more")


def test_rows_are_kept_and_gone_on_with(tmp_path):
    path = tmp_path / "table.csv"
    rows = run(table_work(THREE, path, seconds=5, function=tried))
    assert [row.holds for row in rows] == [True, False, False]
    assert rows[1].problem == "it takes longer than 5 s"
    assert rows[2].problem == "ValueError: of no use"
    assert sorted(read_table(path), key=str) == sorted(rows, key=str)
    assert run(table_work(THREE, path, function=refused)) == rows  # nothing is tried again
    (again,) = run(table_work(THREE[2:], path, function=refused, again=True))
    assert again.problem == "AssertionError: tried once more"
    assert len(read_table(path)) == 3


def test_the_table_for_people_says_what_is_wrong():
    good = Trial(
        "timm/one", "fast", **GOOD, **EQUAL, prunable=0.995, cut_coupled=0.5, peer_cut=0.4, peer="differs by 2"
    )
    bad = Trial("timm/two", "fast", **{**GOOD, "counted_macs": 3_000_000_000}, **{**EQUAL, "inner": "unequal: by 3"})
    text = as_markdown([good, bad])
    assert "| timm/one | 2.000 | 99.5% | equal | - | 50.0% | equal | 40.0%, differs by 2 |" in text
    assert "2.000 (PyTorch: 3.000)" in text
    assert "unequal: by 3" in text
    assert summary([good, bad]).startswith("1 of 2 networks")
    assert not bad.holds


def test_another_table_is_not_written_over(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("name,value\nx,1\n")
    with pytest.raises(FpgmError, match="is no table of this command"):
        run(table_work(THREE, path, function=tried))
    assert path.read_text().startswith("name,value")


def test_the_list_is_of_families_and_every_name_is_known():
    chosen = subjects()
    assert len({one.title for one in chosen}) == len(chosen)
    timm = [one for one in chosen if one.source == "timm"]
    assert len(timm) >= 60
    assert len({one.family for one in timm}) >= 30
    assert {"alexnet", "vgg16", "resnet50", "inception_v3", "regnet_y_400mf"} <= {one.name for one in chosen}
    with pytest.raises(FpgmError, match="is not in the table"):
        subject("timm/nothing")


def test_timm_knows_every_name():
    known = {info.name.removeprefix("timm/") for info in list_models("timm/*")}
    assert {one.name for one in subjects() if one.source == "timm"} <= known


@pytest.mark.thorough
def test_a_network_tried():
    trial = try_out(subject("torchvision/squeezenet1_1"))
    assert trial.holds
    assert trial.macs == trial.counted_macs == 349_151_936
    assert trial.peer == "equal"
