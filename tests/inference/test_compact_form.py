"""The form that runs fastest: the aligned compact network, made by a thread that computes alone."""

import torch

from fpgm_core.inference import compact_on
from fpgm_core.pruning import PrunedNetwork

CPU = torch.device("cpu")


def test_it_computes_what_the_masked_network_does_in_channels_last(resnet20):
    pruned = resnet20.prune(0.4, coupling="independent")
    made, images = compact_on(pruned, CPU), torch.randn(4, *resnet20.input_shape)
    assert made.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        assert torch.allclose(made(images), pruned.masked()(images), atol=1e-4)
    assert sum(one.numel() for one in made.parameters()) == pruned.compact_cost(aligned=True).params


def test_nobody_waits_for_another_core_at_every_operation(resnet20, threads, monkeypatch):
    compact, found = PrunedNetwork.compact, []

    def counted(pruned, **given):
        found.append(torch.get_num_threads())
        return compact(pruned, **given)

    monkeypatch.setattr(PrunedNetwork, "compact", counted)
    threads(2)
    compact_on(resnet20.prune(0.4), CPU)
    assert found == [1]
    assert torch.get_num_threads() == 2
