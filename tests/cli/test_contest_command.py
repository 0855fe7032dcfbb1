"""contest on the command line: the table, the JSON, and what is refused."""

import json

import pytest

from fpgm_core.data import load_images
from fpgm_core.recovery import ladder

FEW = ["contest", "resnet20", "--seeds", "1", "--images", "60", "--device", "cpu", "--precision", "float32"]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few training images for every rung and score."""

    def few(name, split, root=None):
        images = load_images(name, split, root)
        return images.first(300) if split == "train" else images

    monkeypatch.setattr("fpgm_core.cli.images.load_images", few)


def test_the_json_and_the_table_say_the_same(run):
    status, out, err = run(*FEW, "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert (found["model"], found["rate"], found["coupling"], found["split"], found["images"]) == (
        "resnet20", 0.4, "inner", "choose", 60,
    )  # fmt: skip
    names = ("l2_norm", "fpgm", "fpgm_mix", "refit_cost", "random")
    assert [(one["criterion"], one["seed"]) for one in found["entries"]] == [
        (name, 0 if name == "random" else None) for name in names
    ]
    assert len({one["macs"] for one in found["entries"]}) == 1
    assert list(found["ranking"]) == list(ladder())
    for rung, ranking in found["ranking"].items():
        shares = {one["criterion"]: one["rungs"][rung]["accuracy"]["value"] for one in found["entries"]}
        assert sorted(ranking["criteria"], key=lambda name: -shares[name]) == ranking["criteria"]
        assert len(ranking["changes"]) == 12
        for change in ranking["changes"]:
            assert change["value"] == pytest.approx(shares[change["first"]] - shares[change["second"]])
            assert change["excludes_zero"] == (change["low"] > 0 or change["high"] < 0)
        assert all(one["seeds"] == 1 >= one["above"] + one["below"] for one in ranking["against_random"].values())
    _, table, _ = run(*FEW)  # kept: not measured again
    assert [line.split()[0] for line in table.splitlines() if "[" in line] == [
        name for ranking in found["ranking"].values() for name in ranking["criteria"]
    ]
    assert table.count("seeds: 1") == len(ladder())
    assert "on 60 images of choose" in table


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["resnet20", "--rate", "0"], "prunes nothing here"),
        (["resnet20", "--seeds", "-1"], "seeds -1 is not a whole number"),
        (["resnet20", "--images", "9000"], "ask for 1 to 5000"),
        (["resnet20", "--coupling", "outer"], "invalid choice"),
        (["resnet32", "--images", "10"], "trained"),
        (["resnet50"], "no images of imagenet1k"),
    ],
)
def test_bad_input_is_one_line(run, arguments, says):
    status, out, err = run("contest", *arguments)
    assert (status, out) == (2, "")
    assert says in err
    assert len(err.splitlines()) == 1
