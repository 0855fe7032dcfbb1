"""Steps 6 to 8: what has to be measured on images, or timed."""

from __future__ import annotations

import numpy as np

from fpgm_core.calibration import stand_in
from fpgm_core.criteria import geometric_median
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import Contest, Replaceability, Zeros, premise
from fpgm_core.figures import lesson as figures
from fpgm_core.graph import closed_form_cut, weights_of
from fpgm_core.lesson.content import Picture, Scene, Shown
from fpgm_core.lesson.controls import CostControls, FilterControls, NoControls
from fpgm_core.lesson.demonstrations import bundled, filter_of, layer_of
from fpgm_core.lesson.words import Words
from fpgm_core.models import bundled_record
from fpgm_core.pruning import Network

COUPLING = "inner"  # one rate means equal MACs there, and every filter has readers of its own
# Share of FLOPs cut, percent, by network and rate, as printed: He et al., CVPR 2019, Table 1.
PRINTED = {
    "resnet20": {0.3: 42.2, 0.4: 54.0},
    "resnet32": {0.3: 41.5, 0.4: 53.2},
    "resnet56": {0.4: 52.6},
    "resnet110": {0.4: 52.3},
}
_FLOPS_NETWORK = "resnet20"  # stands in where the closed form does not hold
_RATES = tuple(round(0.05 * n, 2) for n in range(1, 15))


def show_replaceable(scene: Scene, controls: FilterControls) -> Shown:
    """Step 6: g against measured refit cost, and one filter's loss before and after the others stand in."""
    found, moments = scene.found.replaceability, scene.found.moments
    if not found or moments is None:
        return Shown(())
    words, network = scene.words, scene.network
    offered = tuple(one.layer for one in found)
    layer = layer_of(network, controls.layer, offered)
    one = next(one for one in found if one.layer == layer)
    nearest = geometric_median(weights_of(network.module, layer)).nearest
    chosen = filter_of(layer, controls.filter, len(one.costs), nearest)
    alone, refitted = stand_in(network, layer, moments)
    figure = figures.stand_in_figure(one.distance_sums, refitted, chosen, nearest, int(one.norms.argmin()), words)
    table = {
        words("table.filter"): list(range(len(alone))),
        words("table.g"): one.distance_sums.tolist(),
        words("table.norm"): one.norms.tolist(),
        words("table.alone"): alone.tolist(),
        words("table.refitted"): refitted.tolist(),
    }
    pictures = [Picture("scatter", figure, words("replaceable.scatter", layer=layer), table)]
    if scene.revealed:
        bars = figures.bars_figure(
            [words("figure.alone"), words("figure.refitted")],
            [float(alone[chosen]), float(refitted[chosen])],
            words("figure.share_lost"),
            ".2%",
        )
        pictures.append(Picture("bars", bars, words("replaceable.bars", chosen=chosen)))
    good = 1 - float(refitted[chosen] / alone[chosen]) if alone[chosen] > 0 else 0.0
    order = np.argsort(np.argsort(refitted, kind="stable"), kind="stable") + 1
    rho = one.by_distance
    said = (
        words("replaceable.lost", chosen=chosen, layer=layer, alone=float(alone[chosen]),
              refitted=float(refitted[chosen]), made_good=good),
        words("replaceable.ranks", cheapest=int(refitted.argmin()), nearest_rank=int(order[nearest]),
              count=len(order), smallest_rank=int(order[one.norms.argmin()])),
        words(f"replaceable.{premise(rho)}", rho=rho.told()) if rho else words("replaceable.few"),
        *([words("replaceable.norm", rho=one.by_norm.told())] if one.by_norm else []),
        *_network_says(found, network, words),
    )  # fmt: skip
    answer = "quarter" if good <= 0.25 else "half" if good < 0.75 else "most"
    return Shown(tuple(pictures), said, answer, FilterControls(layer, chosen), offered)


def _network_says(found: tuple[Replaceability, ...], network: Network, words: Words) -> list[str]:
    known = [(one.layer, one.by_distance) for one in found if one.by_distance is not None]
    if not known:
        return []
    counts = {kind: sum(premise(rho) == kind for _, rho in known) for kind in ("holds", "undecided", "reversed")}
    weakest, rho = min(known, key=lambda one: one[1].value)
    return [words("replaceable.network", network=network.title, count=len(known), weakest=weakest,
                  rho=rho.told(), **counts)]  # fmt: skip


def show_cost(scene: Scene, controls: CostControls) -> Shown:
    """Step 7: criteria at equal MACs on every rung; where the paper's FLOPs come from; what zeros are worth in time."""
    words, contest, zeros = scene.words, scene.found.contest, scene.found.zeros
    pictures, said, answer = [], [], None
    if contest is not None:
        pictures += _contest_pictures(scene, contest, controls.rung)
        said += _contest_says(scene.network, contest, controls.rung, words)
        leaders = contest.ranking(controls.rung).leaders
        answer = leaders[0] if len(leaders) == 1 else "none"
    flops, sentence = _flops(scene.network, controls.rate, words)
    pictures.append(flops)
    said.append(sentence)
    if zeros is not None:
        pictures.append(_zeros_picture(scene.network, zeros, words))
        said.append(_zeros_say(zeros, words))
    return Shown(tuple(pictures), tuple(said), answer)


def _contest_pictures(scene: Scene, contest: Contest, rung: str) -> list[Picture]:
    words, record = scene.words, bundled_record(scene.network.name)
    names = contest.criteria if scene.revealed else ()
    title = {name: words(f"criterion.{name}") for name in contest.criteria}
    criteria = {title[name]: [contest.accuracy(contest.entry(name), one) for one in contest.rungs] for name in names}
    control = [[contest.accuracy(entry, one).value for entry in contest.random] for one in contest.rungs]
    dense = record["accuracy"][contest.split]["accuracy"] if record else None
    figure = figures.contest_figure([words(f"rung.{one}") for one in contest.rungs], criteria, control, dense, words)
    rows = [*(contest.entry(name) for name in names), *contest.random]
    table: dict[str, list[object]] = {
        words("table.criterion"): [
            title.get(row.criterion) or words("table.random_seed", seed=row.seed) for row in rows
        ],
        words("table.macs"): [row.macs for row in rows],
    }
    table |= {words(f"rung.{one}"): [contest.accuracy(row, one).value for row in rows] for one in contest.rungs}
    said = words("cost.ladder" if scene.revealed else "cost.ladder_covered", coupling=contest.coupling,
                 rate=contest.rate, images=contest.images)  # fmt: skip
    pictures = [Picture("contest", figure, said, table)]
    if scene.revealed:
        others = [name for name in contest.criteria if name != "fpgm"]
        fpgm = contest.entry("fpgm")
        changes = [(title[name], contest.change(contest.entry(name), fpgm, rung)) for name in others]
        changes += [(words("table.random_seed", seed=entry.seed), contest.change(entry, fpgm, rung))
                    for entry in contest.random]  # fmt: skip
        caption = words("cost.changes", rung=words(f"rung.{rung}"))
        pictures.append(Picture("changes", figures.changes_figure(changes, words), caption))
    return pictures


def _contest_says(network: Network, contest: Contest, rung: str, words: Words) -> list[str]:
    macs = {contest.entry(name).macs for name in contest.criteria} | {entry.macs for entry in contest.random}
    dense = network.dense_cost.macs
    said = [words("cost.equal", macs=min(macs), dense=dense) if len(macs) == 1
            else words("cost.nearly", low=min(macs), high=max(macs), dense=dense)]  # fmt: skip
    fpgm = contest.entry("fpgm")
    for name in contest.criteria:
        if name != "fpgm":
            change = contest.change(contest.entry(name), fpgm, rung)
            kind = "tie" if not change.excludes_zero else "ahead" if change.value > 0 else "behind"
            size = change.told(100 if kind != "behind" else -100)
            said.append(words(f"cost.{kind}", rung=words(f"rung.{rung}"), name=words(f"criterion.{name}"), change=size))
    said.append(_leader(contest, rung, words))
    control = contest.against_random("fpgm", rung)
    above = sum(one.low > 0 for one in control)
    said.append(
        words(
            "cost.control" if 2 * above > len(control) else "cost.fails",
            rung=words(f"rung.{rung}"),
            seeds=len(control),
            above=above,
            below=sum(one.high < 0 for one in control),
            rest=sum(not one.excludes_zero for one in control),
        )
    )
    first, last = contest.rungs[0], contest.rungs[-1]
    low, high = (contest.accuracy(fpgm, one).value for one in (first, last))
    gaps = [max(a) - min(a) for a in ([contest.accuracy(contest.entry(n), one).value for n in contest.criteria]
                                      for one in contest.rungs)]  # fmt: skip
    said.append(words("cost.rungs", first=words(f"rung.{first}"), last=words(f"rung.{last}"),
                      low=low, high=high, gap=max(gaps) * 100))  # fmt: skip
    return said


def _leader(contest: Contest, rung: str, words: Words) -> str:
    """Which criterion is better than every other on a rung, if one is."""
    leaders = [words(f"criterion.{name}") for name in contest.ranking(rung).leaders]
    name = words(f"rung.{rung}")
    if len(leaders) == 1:
        return words("cost.leader", rung=name, name=leaders[0])
    return words("cost.no_leader", rung=name, names=", ".join(leaders))


def _cuts(network: Network, rate: float) -> tuple[float, float]:
    """The share of MACs that FPGM really cuts in every convolution at a rate, and what the closed form says."""
    counted = 1 - network.cost(network.plan(rate)).macs / network.dense_cost.macs
    return counted, closed_form_cut(network.flow, rate)


def _flops(network: Network, rate: float, words: Words) -> tuple[Picture, str]:
    try:
        closed_form_cut(network.flow, rate)
    except FpgmError:  # the paper gives no formula for this network
        network = bundled(_FLOPS_NETWORK)
    counted, closed = zip(*(_cuts(network, one) for one in _RATES), strict=True)
    paper = PRINTED.get(network.name, {})
    figure = figures.flops_figure(_RATES, counted, closed, paper, words)
    here, formula = _cuts(network, rate)
    caption = words("cost.flops", network=network.title)
    table = {words("figure.rate"): list(_RATES), words("figure.closed_form"): list(closed),
             words("figure.counted"): list(counted)}  # fmt: skip
    return Picture("flops", figure, caption, table), words(
        "cost.closed", network=network.title, rate=rate, closed=formula, counted=here
    )


def _zeros_picture(network: Network, zeros: Zeros, words: Words) -> Picture:
    labels = [words(f"figure.{name}_time") for name in ("dense", "scattered", "compact")]
    values = [zeros.dense_ms, zeros.scattered_ms, zeros.compact_ms]
    figure = figures.bars_figure(labels, values, words("figure.milliseconds"), ".2f")
    caption = words("cost.zeros", network=network.title, share=zeros.share, batch=zeros.batch, threads=zeros.threads)
    return Picture("zeros", figure, caption)


def _zeros_say(zeros: Zeros, words: Words) -> str:
    return words(
        "cost.time",
        scattered=zeros.scattered_ms,
        dense=zeros.dense_ms,
        compact=zeros.compact_ms,
        scattered_ratio=zeros.scattered_ms / zeros.dense_ms,
        compact_ratio=zeros.compact_ms / zeros.dense_ms,
    )


def show_challenge(scene: Scene, controls: NoControls) -> Shown:
    """Step 8: nothing but words here; plans are made and measured on the page."""
    return Shown((), (scene.words("challenge.printed"),))
