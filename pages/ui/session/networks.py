"""The networks that sessions share, opened once for all: their images, their scores, what is true of their layers."""

from __future__ import annotations

import streamlit as st

from fpgm_core import FpgmError, Network
from fpgm_core.criteria import Scores, check_scorable, score_work
from fpgm_core.criteria.diagnostics import NormDiagnostics
from fpgm_core.data import DATA, ImageSet, load_images
from fpgm_core.pruning import PRESETS
from fpgm_core.runtime.device import choose_device
from fpgm_core.runtime.progress import Work
from pages.ui.session.view_state import ViewState

FIRST_MODEL = "mobilenetv2_cifar"  # norm and FPGM disagree on its depthwise layers
FIRST_COUPLING = "inner"
FIRST_PRESET = "uniform_30%"


def open_network(model: str) -> Network:
    """A network of the registry with all scores made of it so far. Raises FpgmError for one that cannot be opened."""
    network = load_network(model)
    made = score_cache().get(network.fingerprint, {})
    return _with_scores(network.fingerprint, tuple(made), network, made) if made else network


@st.cache_resource(max_entries=6, show_spinner="Opening the network ...")
def load_network(model: str) -> Network:
    """A network of the registry, opened once for every session."""
    network = Network.load(model)
    network.dense_cost  # noqa: B018  traced here, behind the spinner, not on the first move
    return network


@st.cache_resource(show_spinner=False)
def score_cache() -> dict[str, dict[str, Scores]]:
    """What criteria that need images made, for every session: scores by the network's fingerprint, then criterion."""
    return {}


@st.cache_resource(max_entries=12, show_spinner=False)
def _with_scores(fingerprint: str, criteria: tuple[str, ...], _network: Network, _scores: dict[str, Scores]) -> Network:
    for criterion in criteria:
        _network = _network.with_scores(criterion, _scores[criterion])
    return _network


def keep_scores(network: Network, criterion: str, scores: Scores) -> None:
    """Have `open_network` give the network with these scores from now on."""
    cache = score_cache()
    cache[network.fingerprint] = {**cache.get(network.fingerprint, {}), criterion: scores}


def scores_work(network: Network, criterion: str) -> Work[Scores]:
    """The scores of a criterion that needs training images. Raises FpgmError at once where there can be none."""
    check_scorable(network, criterion)

    def work() -> Work[Scores]:
        training = load_images(network.dataset, "train")  # in the background: the first time they are read
        return (yield from score_work(network, criterion, training, device=choose_device("auto")))

    return work()


def images_of(network: Network, split: str) -> ImageSet | None:
    """The images of a split ("choose", "sealed", "train") of the network's data set; None where it has none here."""
    return load_images(network.dataset, split) if network.dataset in DATA else None


@st.cache_data(max_entries=64, show_spinner=False)
def diagnostics(fingerprint: str, _network: Network) -> dict[str, NormDiagnostics]:
    """The norm figures of every layer."""
    return {layer.name: _network.norm_diagnostics(layer.name) for layer in _network.layers}


def check(state: ViewState) -> None:
    """Raise FpgmError where a view state names a network, unit, layer or filter that is not there, or bad locks."""
    network = open_network(state.plan.model)
    network.cost(state.plan)
    layer = next((layer for layer in network.layers if layer.name == state.layer), None)
    if layer is None:
        raise FpgmError(f"{state.plan.model} has no layer {state.layer!r}; choose one of its convolutions")
    if state.chosen is not None and not 0 <= state.chosen < layer.filters:
        raise FpgmError(f"{state.layer} has no filter {state.chosen}; its filters are 0 to {layer.filters - 1}")


def first_view(model: str = FIRST_MODEL, criterion: str = "fpgm", coupling: str = FIRST_COUPLING) -> ViewState:
    """Where a network is first opened: pruned a little, on the layer where norm and FPGM disagree most."""
    network = open_network(model)
    rates = PRESETS[FIRST_PRESET].rates(network.units(coupling))
    return ViewState(network.plan(rates, criterion=criterion, coupling=coupling), _most_disputed(network))


def _most_disputed(network: Network) -> str:
    figures = diagnostics(network.fingerprint, network)
    known = {name: figure.spearman for name, figure in figures.items() if figure.spearman is not None}
    return min(known, key=lambda name: known[name]) if known else network.layers[0].name
