"""NVIDIA's FastNAS as a rival: its narrow network, read back as filters of the dense one."""

import pytest

from fpgm_core.allocation import SuggestConfig, prepared_work
from fpgm_core.allocation import fastnas as module
from fpgm_core.allocation.rivals import RIVALS
from fpgm_core.data import load_images
from fpgm_core.runtime.progress import run


@pytest.mark.thorough
@pytest.mark.filterwarnings("default")
def test_it_cuts_what_was_asked(resnet20, monkeypatch, capsys):
    pytest.importorskip("modelopt", reason="needs nvidia-modelopt, of the extra bench")
    monkeypatch.setattr(module, "NUM_IMAGES", 50)
    training = load_images("cifar10", "train").first(100)
    like = resnet20.plan(coupling="inner")
    prepared = run(prepared_work(resnet20, training, like=like, config=SuggestConfig(allocator="uniform")))
    cutter = next(rival for rival in RIVALS if rival.name == "fastnas").begin(prepared, training)
    for cut in (0.3, 0.5):
        pruned = cutter(cut)
        reached = 1 - pruned.cost.macs / resnet20.dense_cost.macs
        assert cut <= reached < cut + 0.1
        counts = [int(mask.sum()) for mask in pruned.keep_masks.values()]
        assert all(count % module.DIVISOR == 0 for count in counts)
    assert capsys.readouterr().out == "", "what it tells goes where progress goes"
