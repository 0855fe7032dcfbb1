"""Steps 1 to 5: what can be seen on toys and on weights alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from fpgm_core.criteria import (
    CRITERIA,
    NormDiagnostics,
    geometric_median,
    medoid,
    norm_diagnostics,
    num_pruned,
    pairwise_distances,
)
from fpgm_core.errors import FpgmError
from fpgm_core.figures import lesson as figures
from fpgm_core.graph import Layer, weights_of
from fpgm_core.lesson.content import Picture, Scene, Shown
from fpgm_core.lesson.controls import (
    DIMENSIONS,
    HOME,
    AgreementControls,
    FilterControls,
    MedianControls,
    NormControls,
    PlaneControls,
)
from fpgm_core.lesson.toys import (
    FOUR_POINTS,
    IDEAL_DEVIATION,
    IDEAL_SMALLEST,
    PlaneFacts,
    agreements,
    as_filters,
    bell,
    bell_curve,
    cloud,
    height,
    how_often_they_differ,
    plane_facts,
    walk,
    with_outlier,
)
from fpgm_core.lesson.words import Words
from fpgm_core.pruning import Network
from fpgm_core.runtime.cores import each

_CPU = torch.device("cpu")
_NETWORKS = 6  # remembered at once: as many as a page holds open
_SETS = 400
_BORROWED = "mobilenetv2_cifar"  # its depthwise layers stand in where a network has none
_SEVERAL = 5  # filters: fewer have no rank correlation worth a point


@lru_cache(maxsize=2)
def bundled(name: str) -> Network:
    """A network that stands in where the one at hand has not what a picture needs: opened once, remembered whole."""
    return Network.load(name)


def _listed(filters: tuple[int, ...]) -> str:
    return ", ".join(map(str, filters)) or "–"


def show_plane(scene: Scene, controls: PlaneControls) -> Shown:
    """Step 1: what norm and FPGM drop of a few points."""
    facts, words = plane_facts(controls.points), scene.words
    dropped = (facts.by_norm, facts.by_distance) if scene.revealed else ((), ())
    figure = figures.plane_figure(
        np.array(controls.points), facts.median, *dropped, facts.cut if scene.revealed else None, words
    )
    table: dict[str, Sequence[object]] = {
        words("table.filter"): range(len(facts.norms)),
        words("table.norm"): facts.norms,
        words("table.g"): facts.sums,
    }
    return Shown(
        (Picture("plane", figure, words("plane.controls_caption"), table),), _plane_says(facts, controls, words)
    )


def _plane_says(facts: PlaneFacts, controls: PlaneControls, words: Words) -> tuple[str, ...]:
    yours, count = set(controls.marked), len(facts.by_norm)
    said = [words("plane.drops", norm=_listed(facts.by_norm), fpgm=_listed(facts.by_distance), shared=facts.shared,
                  count=count)]  # fmt: skip
    if yours:
        said.append(words("plane.yours_drops", yours=_listed(controls.marked), with_norm=len(yours & {*facts.by_norm}),
                          with_fpgm=len(yours & {*facts.by_distance})))  # fmt: skip
    kind = "agree" if facts.shared == count else "between" if facts.shared else "part"
    said.append(words(f"plane.{kind}", away=float(np.hypot(*facts.median))))
    x, y = facts.median
    said.append(words("plane.where", x=x, y=y, medoid=facts.medoid))
    return tuple(said)


def show_norms(scene: Scene, controls: NormControls) -> Shown:
    """Step 2: the two requirements, on a toy layer and on the network's (paper 3.2, Fig. 2 and 3)."""
    words, network = scene.words, scene.network
    toy = bell(controls.deviation, controls.smallest, controls.rate)
    ideal = bell(IDEAL_DEVIATION, IDEAL_SMALLEST, controls.rate)
    curves = figures.bells_figure(
        bell_curve(IDEAL_DEVIATION, IDEAL_SMALLEST),
        bell_curve(controls.deviation, controls.smallest),
        (ideal.cut, toy.cut),
        words,
    )
    rows = [_NormRow(name, norms, figure, controls.rate) for name, (norms, figure) in _norms(network).items()]
    names = [row.layer for row in rows]
    requirements = figures.requirements_figure(
        names, [row.figure.floor for row in rows], [row.figure.spread for row in rows], (toy.floor, toy.spread),
        (ideal.floor, ideal.spread), words,
    )  # fmt: skip
    boxes = figures.layer_norms_figure(names, [row.norms for row in rows], words)
    table: dict[str, Sequence[object]] = {
        words("table.layer"): names,
        words("table.spread"): [row.figure.spread for row in rows],
        words("table.floor"): [row.figure.floor for row in rows],
        words("table.ratio"): [row.ratio for row in rows],
    }
    pictures = (
        Picture("bells", curves, words("norms.bells")),
        Picture("requirements", requirements, words("norms.requirements"), table),
        Picture("boxes", boxes, words("norms.boxes")),
    )
    low, high = (pick(rows, key=lambda row: row.ratio) for pick in (min, max))
    said = (
        words("norms.here", rate=controls.rate, ratio=toy.ratio, ideal=ideal.ratio),
        words("norms.real", network=network.title, low=low.ratio, low_layer=low.layer, high=high.ratio,
              high_layer=high.layer),
        words("norms.fails", layer=high.layer, floor=high.figure.floor, spread=high.figure.spread),
    )  # fmt: skip
    answer = "quarter" if toy.ratio < 0.375 else "half" if toy.ratio < 0.75 else "most"
    return Shown(pictures, said, answer)


@lru_cache(maxsize=_NETWORKS)
def _norms(network: Network) -> dict[str, tuple[np.ndarray, NormDiagnostics]]:
    """Every layer's L2 norms, (N,) each, and what is said of them."""

    def norms(layer: Layer) -> tuple[np.ndarray, NormDiagnostics]:
        filters = weights_of(network.module, layer.name)
        return CRITERIA["l2_norm"].score(filters).cpu().numpy(), norm_diagnostics(filters)

    return dict(zip((layer.name for layer in network.layers), each(norms, network.layers, _CPU), strict=True))


@dataclass(frozen=True, eq=False)
class _NormRow:
    """A layer's norms (N,), and what a rate does to them."""

    layer: str
    norms: np.ndarray
    figure: NormDiagnostics
    rate: float

    @property
    def ratio(self) -> float:
        """The mean norm of the filters that are pruned over that of those kept; 0 where none is pruned."""
        ordered, count = np.sort(self.norms), num_pruned(len(self.norms), self.rate)
        return float(ordered[:count].mean() / ordered[count:].mean()) if count else 0.0


def show_median(scene: Scene, controls: MedianControls) -> Shown:
    """Step 3: f as a contour, Weiszfeld's path on it, and what an outlier does to mean and median."""
    words = scene.words
    points, home = (np.array(with_outlier(away)) for away in (controls.away, HOME))
    middle, before = (geometric_median(as_filters(each.tolist())) for each in (points, home))
    mean = points.mean(0)
    path = walk(tuple(map(tuple, points)), tuple(mean), controls.taken)
    x, y = np.linspace(-2, max(3.0, controls.away + 0.5), 90), np.linspace(-2, 2, 60)
    f = height(points.tolist(), x, y)
    figure = figures.walk_figure(points, (x, y, f), path, _pair(middle.point), (mean[0], mean[1]), words)
    steps_of_f = [float(height(points.tolist(), one[:1], one[1:])[0, 0]) for one in path]
    table = {"k": list(range(len(path))), "x": path[:, 0].tolist(), "y": path[:, 1].tolist(), "f": steps_of_f}
    moved_mean = float(np.linalg.norm(mean - home.mean(0)))
    moved_median = float((middle.point - before.point).norm())
    said = (
        words("median.moved", away=controls.away, home=HOME, mean=moved_mean, median=moved_median),
        words("median.downhill", taken=controls.taken, above=max(0.0, steps_of_f[-1] / middle.value - 1),
              least=middle.value, at_mean=max(0.0, steps_of_f[0] / middle.value - 1)),
    )  # fmt: skip
    alike = abs(moved_mean - moved_median) < 1e-9
    answer = "alike" if alike else "mean" if moved_mean > moved_median else "median"
    return Shown((Picture("contour", figure, words("median.contour"), table),), said, answer)


def layer_of(network: Network, wanted: str, offered: Sequence[str]) -> str:
    """The layer that is wanted, or where none is the one on which norm and FPGM agree least.

    Raises FpgmError for one that is not offered.
    """
    if wanted and wanted not in offered:
        raise FpgmError(f"{network.name} offers no layer {wanted!r} here; choose one of its own")
    if wanted:
        return wanted
    known = {name: _norms(network)[name][1].spearman for name in offered}
    return min(offered, key=lambda name: (known[name] is None, known[name] or 0.0))


def filter_of(layer: str, wanted: int, count: int, otherwise: int) -> int:
    """The filter that is wanted, or `otherwise` for -1. Raises FpgmError for one that the layer has not."""
    if not -1 <= wanted < count:
        raise FpgmError(f"{layer} has no filter {wanted}; its filters are 0 to {count - 1}")
    return otherwise if wanted == -1 else wanted


def show_reviewer(scene: Scene, controls: FilterControls) -> Shown:
    """Step 4: g with and without the filter itself (Eq. 5 to 9), and what that does not prove (Eq. 3 and 4)."""
    words, network = scene.words, scene.network
    offered = tuple(one.name for one in network.layers)
    layer = layer_of(network, controls.layer, offered)
    distances = pairwise_distances(weights_of(network.module, layer)).cpu().numpy()
    count, sums = len(distances), distances.sum(1)
    without = np.array([np.delete(row, index).sum() for index, row in enumerate(distances)])
    middle = geometric_median(weights_of(network.module, layer))
    best = medoid(weights_of(network.module, layer))
    chosen = filter_of(layer, controls.filter, count, best)
    moved = int((_order(sums) != _order(without)).sum())
    both = _middles(network)
    four = as_filters(FOUR_POINTS)
    four_median, four_best = geometric_median(four), medoid(four)
    four_sums = pairwise_distances(four).sum(1)
    near = four_median.nearest
    table: dict[str, Sequence[object]] = {
        words("table.layer"): [one.name for one in network.layers],
        words("table.nearest"): [a for a, _ in both],
        words("table.medoid"): [b for _, b in both],
        words("table.same"): [words("table.yes" if a == b else "table.no") for a, b in both],
    }
    pictures = (
        Picture("terms", figures.terms_figure(distances[chosen], chosen, words),
                words("reviewer.terms", chosen=chosen, layer=layer)),
        Picture("four", figures.four_points_figure(four.numpy(), _pair(four_median.point), near, four_best, words),
                words("reviewer.four"), table),
    )  # fmt: skip
    said = (
        words("reviewer.same", chosen=chosen, g=sums[chosen], g_prime=without[chosen], moved=moved, count=count,
              difference=round(abs(float(sums[chosen] - without[chosen])), 9)),
        words("reviewer.four_said", near=FOUR_POINTS[near], best=FOUR_POINTS[four_best],
              near_distance=float(four_median.distances[near]), best_sum=float(four_sums[four_best]),
              near_sum=float(four_sums[near])),
        words("reviewer.layers", differ=sum(a != b for a, b in both), count=len(both), sets=_SETS,
              network=network.title, toy=how_often_they_differ(_SETS)),
        words("reviewer.bound", medoid=float(sums[best]), median=middle.value,
              ratio=float(sums[best]) / middle.value if middle.value else 1.0),
    )  # fmt: skip
    answer = "none" if not moved else "few" if moved <= count / 2 else "most"
    return Shown(pictures, said, answer, FilterControls(layer, chosen), offered)


@lru_cache(maxsize=_NETWORKS)
def _middles(network: Network) -> list[tuple[int, int]]:
    """The filter nearest the median, and the medoid, of every layer."""

    def middle(layer: Layer) -> tuple[int, int]:
        filters = weights_of(network.module, layer.name)
        return geometric_median(filters).nearest, medoid(filters)

    return each(middle, network.layers, _CPU)


def _pair(point: torch.Tensor) -> tuple[float, float]:
    x, y = point.tolist()
    return x, y


def _order(sums: np.ndarray) -> np.ndarray:
    """Filters by their sums; those whose sums differ by rounding alone keep their numbers' order."""
    return np.argsort(np.round(sums, 9), kind="stable")


@dataclass(frozen=True)
class _Place:
    """A real layer on the picture of step 5."""

    layer: str
    dimension: int
    centre: float
    rho: float
    depthwise: bool

    @property
    def row(self) -> tuple[str, int, float, float]:
        return self.layer, self.dimension, self.centre, self.rho


@lru_cache(maxsize=_NETWORKS)
def _places(network: Network) -> list[_Place]:
    known = _norms(network)  # not from within a core's work: that would wait for a core

    def place(layer: Layer) -> _Place | None:
        rho = known[layer.name][1].spearman
        if rho is None or layer.filters < _SEVERAL:
            return None
        filters = weights_of(network.module, layer.name).detach().double().flatten(1)
        centre = filters.mean(0)
        scatter = (filters - centre).square().sum(1).mean().sqrt()
        depthwise = layer.groups > 1 and layer.shape[1] == 1
        return _Place(layer.name, filters.shape[1], float(centre.norm() / scatter), rho, depthwise)

    return [found for found in each(place, network.layers, _CPU) if found is not None]


def show_agreement(scene: Scene, controls: AgreementControls) -> Shown:
    """Step 5: rank correlation of norm and g by dimension and centre, on clouds and on real layers."""
    words, network = scene.words, scene.network
    filters = torch.from_numpy(cloud(controls.dimension, controls.centre, 0))
    norms, sums = (CRITERIA[name].score(filters).numpy() for name in ("l2_norm", "fpgm"))
    centres = sorted({0.0, 1.0, 4.0, controls.centre})
    known = agreements(DIMENSIONS, centres)
    here = known[controls.dimension, controls.centre]
    curves = {
        centre: [(one.mean, one.low, one.high) for one in (known[d, centre] for d in DIMENSIONS)] for centre in centres
    }
    drawn = figures.dimensions_figure(DIMENSIONS, curves, (controls.dimension, controls.centre, here.mean), words)
    places, lent = _places(network), []
    if not any(place.depthwise for place in places) and network.name != _BORROWED:
        lent = [place for place in _places(bundled(_BORROWED)) if place.depthwise]
    pictures = (
        Picture("cloud", figures.cloud_figure(norms, sums, words), words("agreement.cloud")),
        Picture("curves", drawn, words("agreement.curves", seeds=here.seeds)),
        Picture("real", figures.layers_figure(_grouped(places, lent, words), words), words("agreement.real"),
                _place_table([*places, *lent], words)),
    )  # fmt: skip
    few, many = (known[dimension, controls.centre] for dimension in (DIMENSIONS[0], DIMENSIONS[-1]))
    near, far = (known[controls.dimension, centre] for centre in (0.0, 4.0))
    said = [
        words("agreement.here", dimension=controls.dimension, centre=controls.centre, mean=here.mean, low=here.low,
              high=here.high, seeds=here.seeds),
        words("agreement.both", few=DIMENSIONS[0], many=DIMENSIONS[-1], from_few=few.mean, to_many=many.mean, near=0.0,
              far=4.0, dimension=controls.dimension, from_near=near.mean, to_far=far.mean),
        *_places_say(network, places, lent, words),
    ]  # fmt: skip
    gained = many.mean - few.mean
    answer = "same" if abs(gained) < 0.01 else "more" if gained > 0 else "less"
    return Shown(pictures, tuple(said), answer)


def _grouped(places: list[_Place], lent: list[_Place], words: Words) -> dict[str, list[tuple[str, int, float, float]]]:
    first, rest = places[:1], places[1:]
    groups = {
        words("figure.others"): [one.row for one in rest if not one.depthwise],
        words("figure.depthwise"): [one.row for one in rest if one.depthwise],
        words("figure.first"): [one.row for one in first],
    }
    if lent:
        groups[words("figure.borrowed", network=bundled(_BORROWED).title)] = [one.row for one in lent]
    return {name: rows for name, rows in groups.items() if rows}


def _place_table(places: list[_Place], words: Words) -> dict[str, Sequence[object]]:
    return {
        words("table.layer"): [one.layer for one in places],
        words("table.dimension"): [one.dimension for one in places],
        words("table.centre"): [one.centre for one in places],
        words("table.correlation"): [one.rho for one in places],
    }


def _places_say(network: Network, places: list[_Place], lent: list[_Place], words: Words) -> list[str]:
    if not places:
        return []
    title, low, high = network.title, *(pick(places, key=lambda one: one.rho) for pick in (min, max))
    said = [words("agreement.network", network=title, low=low.rho, low_layer=low.layer, low_numbers=low.dimension,
                  high=high.rho, high_layer=high.layer, high_numbers=high.dimension)]  # fmt: skip
    deep = lent or [one for one in places if one.depthwise]
    others = [one for one in places if not one.depthwise]
    if deep and others:
        means = {
            "depthwise": float(np.mean([one.rho for one in deep])),
            "others": float(np.mean([one.rho for one in others])),
        }
        name = "borrowed" if lent else "depthwise"
        said.append(words(f"agreement.{name}", network=title, other=bundled(_BORROWED).title, **means))
    return said
