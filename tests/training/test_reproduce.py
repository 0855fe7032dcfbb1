"""The table: which runs it takes, each run's start and recipe, results that are read back, means beside the paper's."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from fpgm_core import FpgmError, Network, Plan
from fpgm_core.data import load_images
from fpgm_core.runtime.progress import run as finish
from fpgm_core.training import (
    CONTROLS,
    PAPER,
    Case,
    Recipe,
    Run,
    case_work,
    cases,
    family_rate,
    recipe_of,
    table,
)

RECIPE = Recipe(epochs=1, learning_rate=0.02, batch=32, decay="step")


@pytest.fixture
def run(tmp_path):
    """A function that runs a case on a few images: its result; what it yields is kept in `steps`."""
    training = load_images("cifar10", "train").first(64)
    halves = {half: load_images("cifar10", half).first(60) for half in ("choose", "sealed")}

    def run(case, recipe=RECIPE):
        run.steps.clear()
        work = case_work(
            case, recipe, training=training, images=halves, folder=tmp_path, watched=halves["choose"].first(50),
            device="cpu", precision="float32",
        )  # fmt: skip
        return finish(work, run.steps.append)

    run.steps = []
    return run


def test_the_runs_of_a_table():
    found = cases(["resnet20", "resnet56"], [0.3, 0.4], seeds=[0, 1])
    assert len(found) == len({case.key for case in found}) == 2 * 2 * (1 + 2 * 2)
    assert found[0] == Case("resnet20", 0)
    assert {case.kind for case in found} == {"dense", "fpgm", "fpgm_mix"}


def test_controls_add_their_runs_and_start_after_the_dense_one():
    found = cases(["resnet56"], [0.4], seeds=[3], controls=list(CONTROLS))
    kinds = [case.kind for case in found]
    assert kinds[0] == "dense"
    for kind in (
        "fpgm, fine-tuned at 0.01", "fpgm_mix, fine-tuned at 0.001", "random, fine-tuned at 0.01",
        "random, fine-tuned at 0.001", "fpgm, compact from scratch at equal compute", "fpgm, at ResNet-20's MACs",
    ):  # fmt: skip
        assert kinds.count(kind) == 1
    assert Case("resnet20", 3) in found
    assert len({case.key for case in found}) == len(found)
    with pytest.raises(FpgmError, match="unknown control 'magic'; choose of finetune"):
        cases(["resnet56"], [0.4], seeds=[3], controls=["magic"])


def test_the_familys_rate_is_the_smallest_that_costs_no_more():
    rate = family_rate()
    large, small = Network.load("resnet56", "random"), Network.load("resnet20", "random")
    assert large.cost(large.plan(rate)).macs <= small.dense_cost.macs < large.cost(large.plan(rate - 0.01)).macs


def test_a_run_is_trained_once_and_read_afterwards(run, tmp_path):
    case = Case("resnet20", 5, "fpgm_mix", 0.4)
    result = run(case)
    assert any(isinstance(step.partial, Run) for step in run.steps)
    assert json.loads((tmp_path / case.key / "result.json").read_text()) == result
    assert result["recipe"] == asdict(replace(RECIPE, seed=5))
    assert result["closed_form_cut"] == pytest.approx(0.540, abs=5e-4)  # the paper's 54.0%
    assert 0.48 < result["cut"] < 0.56
    assert run(case) == result
    assert run.steps == []
    with pytest.raises(FpgmError, match="holds a run with another recipe; name another folder"):
        run(case, replace(RECIPE, learning_rate=0.5))


def test_a_damaged_result_is_told(run, tmp_path):
    case = Case("resnet20", 0)
    (tmp_path / case.key).mkdir()
    (tmp_path / case.key / "result.json").write_text("{}")
    with pytest.raises(FpgmError, match="is not a result of this tool"):
        run(case)


def test_fine_tuning_starts_from_the_dense_run_of_its_seed(run, tmp_path):
    tuned = Case("resnet20", 2, "random", 0.4, 0.001)
    with pytest.raises(FpgmError, match="starts from the dense run"):
        run(tuned)
    run(Case("resnet20", 2))
    dense = Network.load("resnet20", tmp_path / "resnet20-dense-seed2" / "resnet20_cifar10.safetensors")
    result = run(tuned)
    assert result["recipe"] == asdict(replace(RECIPE, seed=2, learning_rate=0.001))
    assert result["accuracy"]["all"]["images"] == 120
    plan = Plan.from_json((tmp_path / tuned.key / "plan.json").read_bytes())
    reached = Network.load("resnet20", tmp_path / tuned.key / "resnet20_cifar10.safetensors").prune(plan)
    options = replace(dense.plan().options, seed=2)
    expected = dense.prune(0.4, criterion="random", options=options)
    assert all(np.array_equal(reached.keep_masks[layer], mask) for layer, mask in expected.keep_masks.items())
    weight = "layer3.2.conv2.weight"  # at that rate two steps leave it close to what it was
    kept = torch.tensor(expected.keep_masks["layer3.2.conv2"])
    apart = (reached.masked().state_dict()[weight] - expected.masked().state_dict()[weight])[kept]
    assert 0 < float(apart.abs().max()) < 0.01


def test_the_compact_network_trains_at_the_dense_runs_compute(run):
    result = run(Case("resnet20", 0, "fpgm", 0.4, compact=True), replace(RECIPE, epochs=2))
    assert result["epochs"] == round(2 * result["dense_macs"] / result["macs"])
    assert result["epochs"] > 2
    assert result["schedule"] == "finetune"


def test_resnet110_warms_up_as_the_official_code_does():
    network = Network.load("resnet110", "random")
    assert recipe_of(Case("resnet110", 0), RECIPE, network=network).warm_up == 1
    assert recipe_of(Case("resnet110", 0, "fpgm", 0.4, 0.01), RECIPE, network=network).warm_up == 0


def made(case, accuracy, epochs=200):
    return {
        "case": asdict(case), "kind": case.kind, "recipe": asdict(replace(RECIPE, seed=case.seed)), "epochs": epochs,
        "accuracy": {"all": {"accuracy": accuracy}}, "cut": 0.529, "closed_form_cut": 0.54,
    }  # fmt: skip


def test_the_table_has_mean_and_deviation_beside_the_papers():
    results = [made(Case("resnet20", seed, "fpgm", 0.4), at) for seed, at in enumerate((0.90, 0.91, 0.92))]
    text = table([*results, made(Case("resnet56", 0, "random", 0.4, 0.01), 0.5)])
    assert "| resnet20 | fpgm | 40% | 3 | 200 | 91.00 ± 1.00 | 90.44 ± 0.20 | 52.9% | 54.0% |" in text
    assert "| resnet56 | random, fine-tuned at 0.01 | 40% | 1 | 200 | 50.00 |  | 52.9% | 54.0% |" in text
    assert text.count("* 1 epoch; SGD") == 1  # one recipe, whatever the seed


def test_the_papers_rows_are_cases_of_ours():
    kinds = {(case.net, case.kind, case.rate) for case in cases(
        ["resnet20", "resnet32", "resnet56", "resnet110"], [0.3, 0.4], seeds=[0], controls=["finetune"]
    )}  # fmt: skip
    assert set(PAPER) <= kinds
