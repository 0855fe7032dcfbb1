"""Commands that choose rates, and that keep and compare what was measured."""

import json

import pytest

from fpgm_core import Plan


def test_suggest(run, few_images, tmp_path):
    few_images(300)
    path = tmp_path / "plan.json"
    words = [
        "suggest",
        "resnet20",
        "--macs-cut",
        0.3,
        "--coupling",
        "inner",
        "--loss",
        "damage",
        "--fix",
        "layer3.0.conv1",
    ]
    status, out, err = run(*words, "--out", path, "--json")
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert 1 - result["macs"] / result["dense_macs"] == pytest.approx(result["reached"]["macs"])
    assert Plan.from_json(path.read_text()) == Plan.from_dict(result["plan"])
    assert "layer3.0.conv1" not in result["plan"]["rates"]
    status, out, _ = run(*words)
    assert "solved, fpgm, inner: cuts 3" in out
    assert "The bargain is " in out
    for wrong, said in (
        (["--macs-cut", 2], "not a share between 0 and 1"),
        ([], "say one thing"),
        (["--macs-cut", 0.5, "--fix", "fc"], "no unit 'fc'"),
    ):
        status, out, err = run("suggest", "resnet20", *wrong)
        assert (status, out) == (2, "")
        assert said in err


def test_suggest_refuses_what_does_not_go_together(run):
    for words, said in (
        (["--macs-cut", 0.5, "--max-loss", 2], "say one thing"),
        (["--max-loss", 2, "--search", 5], "say how much with --macs-cut"),
        (["--macs-cut", 0.5, "--optimism", 3], "give --search"),
    ):
        status, out, err = run("suggest", "resnet20", *words)
        assert (status, out) == (2, "")
        assert said in err


def test_a_front_is_written_and_its_points_are_in_the_history(run, few_images, tmp_path):
    few_images(80)
    path = tmp_path / "front.csv"
    status, out, _ = run(
        "suggest", "resnet20", "--front", 0.2, 0.4, "--allocator", "uniform", "--coupling", "inner", "--images", 30,
        "--no-recalibrate", "--csv", path, "--json",
    )  # fmt: skip
    assert status == 0
    points = json.loads(out)["points"]
    assert [(point["allocator"], point["cut"]) for point in points] == [("uniform", 0.2), ("uniform", 0.4)]
    assert len(path.read_text().splitlines()) == 3
    _, out, _ = run("history", "--model", "resnet20", "--json")
    assert {entry["macs"] for entry in json.loads(out)["entries"]} == {point["macs"] for point in points}


def test_history(run, few_images, tmp_path):
    few_images(40)
    assert run("history")[1] == "nothing was measured yet\n"
    assert run("evaluate", "resnet20", "--rate", 0.3, "--images", 20, "--no-recalibrate")[0] == 0
    assert run("history", "--name", 1, "the first")[0] == 0
    assert run("history", "--pin", 1)[0] == 0
    _, out, _ = run("history", "--search", "first", "--pinned")
    assert out.startswith("*    1 ")
    assert "the first" in out
    for name in ("list.csv", "list.json", "plan.json"):
        more = ["--plan", 1] if name.startswith("plan") else []
        assert run("history", *more, "--out", tmp_path / name)[0] == 0
        assert (tmp_path / name).read_text()
    assert Plan.from_json((tmp_path / "plan.json").read_text()).rate("conv1") == 0.3
    assert run("history", "--delete", 1)[1] == "nothing was measured yet\n"
    for words, said in ((["--pin", 5], "no entry 5"), (["--name", "x", "y"], "no entry's number"),
                        (["--out", tmp_path / "list.txt"], "neither a .csv nor a .json")):  # fmt: skip
        status, out, err = run("history", *words)
        assert (status, out) == (2, "")
        assert said in err


def test_compare(run, few_images, tmp_path, resnet20):
    few_images(60)
    paths = []
    for rate in (0.2, 0.5):
        paths.append(tmp_path / f"plan{rate}.json")
        paths[-1].write_text(resnet20.plan(rate, coupling="inner").to_json())
    status, out, _ = run("compare", "resnet20", *paths, "--images", 50, "--no-recalibrate", "--json")
    assert status == 0
    result = json.loads(out)
    (row,) = result["compared"]
    assert (result["first"], row["name"]) == ("plan0.2", "plan0.5")
    assert row["change"]["value"] == pytest.approx((len(row["won"]) - len(row["lost"])) / 50)
    assert set(row["filters"]) == {unit.name for unit in resnet20.units("inner")}
    status, out, _ = run("compare", "resnet20", paths[0], "--images", 50, "--no-recalibrate")
    assert out.startswith("plan0.2 (as_is) against dense: ")
    status, out, err = run("compare", "resnet20", *paths, *paths, paths[0])
    assert (status, out) == (2, "")
    assert "at most 4" in err


def test_bench_rates(run, tmp_path):
    status, out, _ = run(
        "bench", "rates", "resnet20", "--coupling", "inner", "--cut", 0.3, "--rung", "as_is", "--rival", "random_0",
        "--images", 50, "--loss", "damage", "--json",
    )  # fmt: skip
    assert status == 0
    result = json.loads(out)
    assert [one["contender"] for one in result["matches"]] == ["ours", "random_0"]
    assert result["verdicts"][0]["rival"] == "random_0"
    table = tmp_path / "rates"
    for rival in ("random_0", "random_1"):
        words = ["--cut", 0.3, "--rung", "as_is", "--rival", rival, "--images", 50, "--loss", "damage", "--out", table]
        assert run("bench", "rates", "resnet20", "--coupling", "inner", *words)[0] == 0
    lines = table.with_suffix(".csv").read_text().splitlines()
    assert [line.split(",")[4] for line in lines] == ["contender", "ours", "random_0", "random_1"]
    assert "best of 2 |" in table.with_suffix(".md").read_text()
    status, out, err = run("bench", "rates", "resnet20", "--rival", "nobody")
    assert (status, out) == (2, "")
    assert "unknown rival 'nobody'" in err
