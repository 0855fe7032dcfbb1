"""The networks that sessions share, opened once for all: their images, their scores, what is true of their layers."""

from __future__ import annotations

from fpgm_core import FpgmError, Network
from fpgm_core.criteria import Scores, check_scorable, score_work
from fpgm_core.criteria.diagnostics import NormDiagnostics
from fpgm_core.data import DATA, ImageSet, load_images
from fpgm_core.models import bundled_record, get_model_info
from fpgm_core.pruning import PRESETS
from fpgm_core.runtime.device import choose_device
from fpgm_core.runtime.memo import once
from fpgm_core.runtime.progress import Work
from pages.ui.session.kept import kept
from pages.ui.session.opened import NETWORKS, OWN, check_images, is_kept, live_network, opened_network
from pages.ui.session.view_state import ViewState

FIRST_MODEL = "mobilenetv2_cifar"  # norm and FPGM disagree on its depthwise layers
FIRST_COUPLING = "inner"
FIRST_PRESET = "uniform_30%"


def network_of(state: ViewState) -> Network:
    """The network that a view state shows, see `open_network`."""
    return open_network(state.plan.model, state.plan.fingerprint, state.data)


def open_network(model: str, fingerprint: str | None = None, data: str = "") -> Network:
    """A network with all scores made of it so far: of those weights where they are at hand, judged on those images.

    Raises FpgmError for one that cannot be opened, and for images that are not here any more.
    """
    network = load_network(model, fingerprint)
    if data:
        check_images(data)
        plain = network
        network = NETWORKS.get_or_make((network.identity, data), lambda: plain.with_dataset(data))
    made = score_cache().get(network_key(network), {})
    return (
        NETWORKS.get_or_make((*network_key(network), *made), lambda: _with_scores(network, made)) if made else network
    )


def is_open(model: str, fingerprint: str | None = None) -> bool:
    """Whether a network is in memory, or ships with the library and opens in a moment. Imports nothing."""
    known = live_network(model) or NETWORKS.get(model)
    if known is None and bundled_record(model) is None:
        return False
    if fingerprint is None or (known is not None and known.fingerprint == fingerprint):
        return True
    return NETWORKS.get((model, fingerprint)) is not None or not is_kept(fingerprint)


def load_network(model: str, fingerprint: str | None = None) -> Network:
    """A network by its name, opened once for every session; with other weights of it where a fingerprint names them."""
    if fingerprint is not None:
        default = live_network(model) is None and registry_network(model)
        if default and default.fingerprint == fingerprint:
            return default
        opened = opened_network(model, fingerprint)
        if opened is not None:
            return opened
    return live_network(model) or registry_network(model)


def registry_network(model: str) -> Network:
    """A network of the registry with the best weights at hand, opened once for every session."""
    name = get_model_info(model).name  # some have two
    return NETWORKS.get_or_make(name, lambda: Network.load(name))


def network_key(network: Network) -> tuple[str, str]:
    """What shared work about a network goes by: its weights and graph, and the images it is judged on."""
    return network.identity, network.dataset


@once
def score_cache() -> dict[tuple[str, str], dict[str, Scores]]:
    """What criteria that need images made, for every session: scores by `network_key`, then criterion."""
    return {}


def _with_scores(network: Network, scores: dict[str, Scores]) -> Network:
    for criterion, made in scores.items():
        network = network.with_scores(criterion, made)
    return network


def keep_scores(network: Network, criterion: str, scores: Scores) -> None:
    """Have `open_network` give the network with these scores from now on."""
    cache, key = score_cache(), network_key(network)
    cache[key] = {**cache.get(key, {}), criterion: scores}


def scores_work(network: Network, criterion: str) -> Work[Scores]:
    """The scores of a criterion that needs training images. Raises FpgmError at once where there can be none."""
    check_scorable(network, criterion)

    def work() -> Work[Scores]:
        training = load_images(network.dataset, "train")  # in the background: the first time they are read
        return (yield from score_work(network, criterion, training, device=choose_device("auto")))

    return work()


def own_file(network: Network) -> str | None:
    """The name of the file that a network's weights were read from; None where they are not a person's own."""
    kind, _, name = network.weights.partition(" ")
    return name.partition(" (")[0] if kind == "file" else None


def title_of(network: Network) -> str:
    """What a network is called on the pages: with its file, where the weights are a person's own."""
    file = own_file(network)
    return network.title if file is None else f"{network.title} · {file}"


def why_unmeasured(network: Network) -> str | None:
    """Why a network's accuracy cannot be measured here, in words; None where it can be."""
    if not network.trained:
        return network.notice
    if network.num_classes is None:
        return f"{network.title} does not answer with one row of logits an image, so it has no accuracy"
    if network.dataset not in DATA:
        return f"there are no images here to measure {network.title} on: Open … reads yours"
    return None


def images_of(network: Network, split: str) -> ImageSet | None:
    """The images of a split ("choose", "sealed", "train") of the network's data set; None where it has none here."""
    return load_images(network.dataset, split) if network.dataset in DATA else None


@kept
def diagnostics(identity: str, _network: Network) -> dict[str, NormDiagnostics]:
    """The norm figures of every layer."""
    return {layer.name: _network.norm_diagnostics(layer.name) for layer in _network.layers}


def check(state: ViewState) -> None:
    """Raise FpgmError where a view state names a network, unit, layer or filter that is not there, or bad locks."""
    network = network_of(state)
    network.cost(state.plan)
    layer = next((layer for layer in network.layers if layer.name == state.layer), None)
    if layer is None:
        raise FpgmError(f"{state.plan.model} has no layer {state.layer!r}; choose one of its convolutions")
    if state.chosen is not None and not 0 <= state.chosen < layer.filters:
        raise FpgmError(f"{state.layer} has no filter {state.chosen}; its filters are 0 to {layer.filters - 1}")


def first_view(model: str = FIRST_MODEL, criterion: str = "fpgm", coupling: str = FIRST_COUPLING) -> ViewState:
    """Where a network of the registry is first opened, see `view_of`."""
    return view_of(open_network(model), criterion, coupling)


def view_of(network: Network, criterion: str = "fpgm", coupling: str = FIRST_COUPLING) -> ViewState:
    """A network pruned a little, on the layer of its units where norm and FPGM disagree most."""
    rates = PRESETS[FIRST_PRESET].rates(network.units(coupling))
    plan = network.plan(rates, criterion=criterion, coupling=coupling)
    return ViewState(plan, _most_disputed(network, coupling), data=own_data(network))


def own_data(network: Network) -> str:
    """The data set that a view state names for a network: one that was opened here, "" for its own."""
    return network.dataset if network.dataset.startswith(OWN) else ""


def _most_disputed(network: Network, coupling: str) -> str:
    """Among the layers that can be pruned: one that stays whole shows nothing of a plan."""
    figures = diagnostics(network.identity, network)
    members = [member for unit in network.units(coupling) for member in unit.members if member in figures]
    names = members or list(figures)
    known = {name: spearman for name in names if (spearman := figures[name].spearman) is not None}
    return min(known, key=lambda name: known[name]) if known else names[0]
