"""A plan in the forms that other pruning tools read."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

from fpgm_core.pruning import Network, Plan


def plan_csv(network: Network, plan: Plan) -> str:
    """One line a convolution that the plan moves: its unit, rate, counts, and the filters pruned."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("unit", "layer", "rate", "filters", "pruned", "kept", "pruned_filters"))
    masks = network.keep_masks(plan)
    for unit in network.units(plan.coupling):
        for layer in unit.members:
            gone = [int(i) for i in (~masks[layer]).nonzero()[0]]
            left = unit.size - len(gone)
            writer.writerow(
                (unit.name, layer, plan.rate(unit.name), unit.size, len(gone), left, " ".join(map(str, gone)))
            )
    return text.getvalue()


def torch_ao_config(network: Network, plan: Plan) -> list[dict[str, Any]]:
    """The config of torch.ao.pruning's experimental FPGMPruner: `pruner.prepare(model, config)`.

    It prunes round(N sparsity_level) filters; each level is the plan's own count over N, so it prunes
    equally many. It scores every layer by itself, as FPGM does, whatever the plan's criterion.
    """
    network.check(plan)
    counts = {unit: network.count_pruned(plan, unit) for unit in network.units(plan.coupling)}
    return [
        {"tensor_fqn": f"{layer}.weight", "sparsity_level": count / unit.size}
        for unit, count in counts.items()
        if count
        for layer in unit.members
    ]


def as_json(data: Any) -> bytes:
    """Data as indented JSON with a final newline."""
    return (json.dumps(data, indent=2) + "\n").encode()
