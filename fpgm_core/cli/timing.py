"""Commands that time networks."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from functools import partial
from typing import Any

from fpgm_core.cli.arguments import Command, about, add_model, add_place, add_plan, opened, pruned_of, show
from fpgm_core.cli.images import add_data
from fpgm_core.cli.progress import finish
from fpgm_core.errors import FpgmError
from fpgm_core.graph import Cost
from fpgm_core.pruning import Network, PrunedNetwork
from fpgm_core.timing import (
    RUNTIMES,
    Latency,
    Target,
    TimingConfig,
    Timings,
    available_runtimes,
    forms_of,
    latency_work,
    ms_told,
)
from fpgm_core.timing.attribution import REASONS, Attribution, attribution_work
from fpgm_core.timing.placing import GATHERED, PLACINGS, placings_work

BATCHES = (1, 64)


def add_timing(parser: argparse.ArgumentParser, defaults: TimingConfig = TimingConfig()) -> None:
    """The arguments that say in which runtimes to time, and how long."""
    parser.add_argument(
        "--runtime",
        action="append",
        choices=[*RUNTIMES, "all"],
        help="what runs the networks; may be repeated; all: whatever is available here",
    )
    parser.add_argument(
        "--runs", type=int, default=defaults.runs, help="rounds, of which medians count, at least (default %(default)s)"
    )
    parser.add_argument(
        "--width",
        type=float,
        default=defaults.width,
        help="then on until intervals are this narrow, as a share either way (default %(default)s)",
    )
    parser.add_argument(
        "--seconds", type=float, default=defaults.seconds, help="or so long (default %(default)s), each time"
    )


def timing_of(chosen: argparse.Namespace) -> TimingConfig:
    """How long to time, as `add_timing`'s arguments say."""
    return TimingConfig(runs=chosen.runs, width=chosen.width, seconds=chosen.seconds)


def runtimes_of(chosen: argparse.Namespace, default: tuple[str, ...]) -> tuple[str, ...]:
    """The runtimes that `add_timing`'s arguments name. Raises FpgmError for one that is not available here."""
    asked = tuple(chosen.runtime or default)
    if "all" in asked:
        return available_runtimes()
    for name in asked:
        if reason := RUNTIMES[name].lacks():
            raise FpgmError(f"{RUNTIMES[name].title} is not available here: {reason}")
    return asked


def add_target(parser: argparse.ArgumentParser) -> None:
    """The arguments that name one runtime and how it runs."""
    parser.add_argument("--runtime", choices=list(RUNTIMES), default="pytorch", help="(default pytorch)")
    parser.add_argument("--batch", type=int, default=1, help="images at once (default 1)")
    parser.add_argument("--threads", type=int, help="of the processor (default all that torch takes)")


def target_of(chosen: argparse.Namespace) -> Target:
    """The target that `add_target`'s arguments say. Raises FpgmError where its runtime is not available here."""
    runtimes_of(argparse.Namespace(runtime=[chosen.runtime]), ())
    return Target(chosen.runtime, chosen.batch, chosen.threads)


def add_aligned(parser: argparse.ArgumentParser) -> None:
    """The argument that chooses the aligned compact network."""
    parser.add_argument(
        "--aligned",
        action="store_true",
        help="let the writers of a sum carry each other's channels as zeros: more MACs than the plan's, fewer gathers "
        "or none, often faster where they kept different channels (independent plans)",
    )


def aligned_told(pruned: PrunedNetwork) -> str:
    """What the aligned compact network costs, beside the plan."""
    if not pruned.can_align:
        return "aligned: nothing was to align, for writers of every sum kept the same channels"
    held, plan = pruned.compact_cost(aligned=True), pruned.cost
    return (
        f"aligned: with the zeros that it carries {held.macs:,} MACs and {held.params:,} parameters; the plan has "
        f"{plan.macs:,} and {plan.params:,}"
    )


def _latency_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_plan(parser)
    add_timing(parser)
    add_aligned(parser)
    parser.add_argument("--batch", type=int, action="append", help="images at once; may be repeated (default 1, 64)")
    parser.add_argument("--threads", type=int, help="of the processor (default all that torch takes)")
    parser.add_argument("--why", action="store_true", help="then say, layer by layer, where the time goes")
    parser.add_argument(
        "--forms", action="store_true", help="then time the forms that sums can take where streams kept other channels"
    )
    add_place(parser, precision=False)
    add_data(parser)


def _latency(chosen: argparse.Namespace) -> int:
    network = opened(chosen)
    targets = [
        Target(name, batch, chosen.threads, chosen.device)
        for name in runtimes_of(chosen, ("pytorch",))
        for batch in chosen.batch or BATCHES
    ]
    config, pruned = timing_of(chosen), pruned_of(chosen, network)
    forms, latencies = forms_of(pruned, aligned=chosen.aligned), list[Latency]()
    for target in targets:
        work = latency_work(pruned, target=target, config=config, forms=forms)
        latencies.append(finish(work, f"timing batches of {target.batch} in {target.record.title}"))
    cost = pruned.compact_cost(aligned=chosen.aligned)
    result = {**_result(network, pruned, latencies), "aligned": chosen.aligned, "compact_macs": cost.macs}
    text = "\n".join([_text(network, cost, latencies), *([aligned_told(pruned)] if chosen.aligned else [])])
    if chosen.why:
        profiled = partial(attribution_work, pruned, aligned=chosen.aligned)
        found = {target: finish(profiled(target=target)) for target in targets}
        result["why"] = [{**target.identity, **asdict(one)} for target, one in found.items()]
        text = "\n".join([text, *(_why(target, one) for target, one in found.items())])
    if chosen.forms:
        timed = {target: finish(placings_work(pruned, target=target, config=config)) for target in targets}
        result["forms"] = [{**target.identity, **_forms(one)} for target, one in timed.items()]
        text = "\n".join([text, *(_forms_told(target, one) for target, one in timed.items())])
    show(chosen, result, text)
    return 0


def _forms(timings: Timings) -> dict[str, Any]:
    """How many times as long the form that compact networks have takes as each of the others."""
    ratios = {name: asdict(timings.ratio(GATHERED, name)) for name in timings.seconds if name != GATHERED}
    return {"runs": timings.rounds, "busy": timings.conditions.busy, "ratio_to_gathered": ratios}


def _forms_told(target: Target, timings: Timings) -> str:
    lines = [f"{target.record.title}, batch {target.batch}, {timings.rounds} rounds; {GATHERED}: {PLACINGS[GATHERED]}"]
    for name in timings.seconds:
        if name != GATHERED:
            ratio, what = timings.ratio(GATHERED, name), PLACINGS.get(name, "nothing is pruned")
            lines.append(f"  {name}, {ratio.value:.3f} times as fast [{ratio.low:.3f}, {ratio.high:.3f}]: {what}")
    return "\n".join(lines)


def _why(target: Target, found: Attribution) -> str:
    """Where the time goes, layer by layer, and the reasons."""
    lines = [
        f"{target.record.title}, batch {target.batch}: dense {found.dense.ms:.3g} ms, compact {found.compact.ms:.3g} "
        f"ms; its MACs promise {found.promised_ms:.3g} ms"
    ]
    width = max((len(one.name) for one in found.layers), default=0)
    for one in found.layers:
        lines.append(
            f"  {one.name:{width}} {one.read:5} to {one.kept:5}  {one.macs_left:6.1%} of its MACs  "
            f"{one.dense_ms:8.4f} to {one.compact_ms:8.4f} ms"
        )
    lines += [f"  {ms:+.3f} ms: {REASONS[name]}" for name, ms in found.reasons.items()]
    if not found.reasons:
        lines.append("  it keeps what its MACs promise")
    return "\n".join(lines)


def _result(network: Network, pruned: PrunedNetwork, latencies: list[Latency]) -> dict[str, Any]:
    return {
        **about(network),
        "criterion": pruned.plan.criterion,
        "coupling": pruned.plan.coupling,
        "macs": pruned.cost.macs,
        "dense_macs": network.dense_cost.macs,
        "latency": [latency.to_dict() for latency in latencies],
        "untimed": [{"runtime": name, "reason": record.lacks()} for name, record in RUNTIMES.items() if record.lacks()],
    }


def _text(network: Network, cost: Cost, latencies: list[Latency]) -> str:
    lines = list[str]()
    for latency in latencies:
        lines.append(told(latency))
        if latency.dense_peak_bytes is not None and latency.compact_peak_bytes is not None:
            peaks = latency.dense_peak_bytes / 2**20, latency.compact_peak_bytes / 2**20
            lines.append(f"    peak memory {peaks[0]:.1f} and {peaks[1]:.1f} MiB")
        lines.append(f"    {latency.timings.conditions.told}")
    lines.append(f"MACs are {network.dense_cost.macs / cost.macs:.2f} times fewer")
    return "\n".join(lines)


def told(latency: Latency) -> str:
    """One line: where, what each takes, and what may be said of the two."""
    target, dense, compact = latency.target, latency.dense, latency.compact
    where = f"{target.record.title}, {target.device}, {target.threads} threads, batch {target.batch}"
    return (
        f"{where}: dense {ms_told(dense.value, dense.low, dense.high, unit=' ms')}, compact "
        f"{ms_told(compact.value, compact.low, compact.high, unit=' ms')}: {latency.told} "
        f"({latency.timings.rounds} rounds)"
    )


LATENCY = Command(
    "latency", "time the dense and the compact network in turns, in any runtime", _latency_arguments, _latency
)
