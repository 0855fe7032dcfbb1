"""What zeros are worth in time: scattered over the weights, or taken out as whole filters."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from fpgm_core.pruning import Network, PrunedNetwork, RecoveryStep
from fpgm_core.runtime.progress import Work
from fpgm_core.timing.engine import TimingConfig
from fpgm_core.timing.latency import formed_work
from fpgm_core.timing.runtimes import Form, Target


@dataclass(frozen=True)
class Zeros:
    """What zeros are worth in time: as many scattered over the weights, and whole filters of them taken out.

    Milliseconds are medians over `runs` rounds of three networks in turns: the dense one, one of its shapes with zeros
    as `scatter_zeros` puts them (`scattered_ms`), and the compact one. `share` is the part of all convolutions'
    weights, 0..1, that is zero in the second and absent from the third. Dense kernels are used for all, as PyTorch
    does.
    """

    batch: int
    runs: int
    device: str
    threads: int
    dense_ms: float
    scattered_ms: float
    compact_ms: float
    share: float


def zeros_work(
    pruned: PrunedNetwork, *, target: Target | None = None, config: TimingConfig | None = None
) -> Work[Zeros]:
    """Time scattered zeros beside removed filters. Raises FpgmError as `latency_work` does."""
    network, target = pruned.network, target or Target()
    modules = {
        "dense": network.prune(0.0).compact(),
        "scattered": scatter_zeros(pruned),
        "compact": pruned.compact(),
    }
    lacking = _lacking(network, modules["compact"])
    weights = sum(weight.numel() for weight in _conv_weights(network).values())
    forms = {name: Form.of(module.eval(), network.input_shape) for name, module in modules.items()}
    timings = yield from formed_work(forms, network.input_shape, target, config)
    assert target.threads is not None
    return Zeros(
        batch=target.batch,
        runs=timings.rounds,
        device=target.device,
        threads=target.threads,
        dense_ms=timings.ms("dense").value,
        scattered_ms=timings.ms("scattered").value,
        compact_ms=timings.ms("compact").value,
        share=sum(lacking.values()) / weights,
    )


def scatter_zeros(pruned: PrunedNetwork) -> nn.Module:
    """The dense network with as many weights of every convolution at zero as the compact network lacks.

    Those of the smallest magnitude in each, ties going to the earlier one; the dense network is not touched.
    """
    network = pruned.network
    dense, thinned = _conv_weights(network), {}
    for name, count in _lacking(network, pruned.compact()).items():
        flat = dense[name].detach().flatten().clone()
        flat[flat.abs().argsort(stable=True)[:count]] = 0.0
        thinned[f"{name}.weight"] = flat.reshape(dense[name].shape)
    return network.prune(0.0).with_tensors(thinned, RecoveryStep("scattered_zeros")).compact()


def _conv_weights(network: Network) -> dict[str, torch.Tensor]:
    return {layer.name: network.module.get_parameter(f"{layer.name}.weight") for layer in network.layers}


def _lacking(network: Network, compact: nn.Module) -> dict[str, int]:
    """How many weights of each convolution a compact network does without: all, where it lacks the layer."""
    left = {name: parameter.numel() for name, parameter in compact.named_parameters()}
    dense = _conv_weights(network)
    return {name: weight.numel() - left.get(f"{name}.weight", 0) for name, weight in dense.items()}
