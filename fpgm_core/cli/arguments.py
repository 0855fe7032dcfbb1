"""What commands share: which network, which plan, how to show progress and results."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpgm_core.cli.images import training_of
from fpgm_core.cli.progress import finish
from fpgm_core.criteria import CRITERIA, SelectionOptions, check_rate, score_work
from fpgm_core.data import read_size
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import EvaluationConfig, check_loss
from fpgm_core.graph import COUPLINGS
from fpgm_core.pruning import Network, Plan, PrunedNetwork
from fpgm_core.recovery import RecoveryContext, check_rung, get_recovery_method, ladder, usual_rung
from fpgm_core.runtime.device import DEVICES, PRECISIONS, choose_device
from fpgm_core.runtime.files import read_file

_MOST_OF_A_PLAN = 16 << 20  # bytes


@dataclass(frozen=True)
class Command:
    """One command: its name, a line of help, its arguments, and what it does; `run` returns the exit status."""

    name: str
    text: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def rate_of(text: str) -> float:
    """An argument as a rate."""
    try:
        return check_rate(float(text))
    except ValueError as error:
        message = str(error) if isinstance(error, FpgmError) else f"rate {text!r} is not a number from 0 to 1"
        raise argparse.ArgumentTypeError(message) from error


def points_of(text: str) -> float:
    """An argument in points of accuracy as a fraction."""
    try:
        return check_loss(float(text) / 100)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of points from 0 to 100") from error


def add_model(parser: argparse.ArgumentParser) -> None:
    """The arguments that say which network, with which weights."""
    which = parser.add_mutually_exclusive_group(required=True)
    # Suppressed, or the positional that is not given would put its default over what the option says.
    text = "a name that `models` lists: resnet20, torchvision/resnet50, timm/resnet50d"
    which.add_argument("model", nargs="?", default=argparse.SUPPRESS, help=text)
    which.add_argument("--model", metavar="NAME", help="the same")
    parser.add_argument(
        "--weights", help="a checkpoint file, weights that torchvision or timm publish (DEFAULT, a name), or random"
    )
    parser.add_argument(
        "--input-size", type=_size_of, metavar="PIXELS", help="what its images measure, 64 or 64x96 (high x wide)"
    )


def _size_of(text: str) -> tuple[int, int]:
    try:
        return read_size(text)
    except FpgmError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def network_of(chosen: argparse.Namespace, weights: str | None = None) -> Network:
    """The network of `add_model`'s arguments; `weights` are what none given means."""
    shape = None if chosen.input_size is None else (3, *chosen.input_size)
    return Network.load(chosen.model, chosen.weights or weights, input_shape=shape)


def add_plan(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """The arguments that say what to prune."""
    what = parser.add_mutually_exclusive_group(required=required)
    what.add_argument("--rate", type=rate_of, help="prune this fraction of every unit")
    what.add_argument("--plan", type=Path, help="a plan's JSON file, which also says criterion and coupling")
    add_choices(parser)


def add_choices(parser: argparse.ArgumentParser, coupling: str = "independent") -> None:
    """The arguments that say how to choose filters; `coupling` is what none given means."""
    parser.add_argument("--criterion", help=f"one of {', '.join(CRITERIA)} (default fpgm)")
    parser.add_argument("--coupling", help=f"one of {', '.join(COUPLINGS)} (default {coupling})")
    parser.add_argument("--seed", type=int, help="seed of the random criterion (default 0)")
    parser.add_argument("--mix-share", type=float, help="part of the rate fpgm_mix prunes by norm (default 0.25)")
    parser.add_argument("--round-to", type=int, help="round the filters kept up to a multiple, 8 say (default 1)")


def add_rung(parser: argparse.ArgumentParser) -> None:
    """The arguments that say on which rung of the recovery ladder the pruned network stands."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--rung", choices=ladder(), help="what is done after pruning (default recalibrated; as_is without batch norms)"
    )
    which.add_argument("--no-recalibrate", action="store_true", help="the same as --rung as_is")


def add_together(parser: argparse.ArgumentParser) -> None:
    """The argument that lets several processes do one piece of work: what `together` of `sweep_work` is given."""
    parser.add_argument(
        "--together", nargs="?", const="", metavar="URL",
        help="share the work with every process that runs the same command: through a file in FPGM_HOME, or between "
        "machines a data base such as postgresql+psycopg://user@host/name",
    )  # fmt: skip


def rung_of(chosen: argparse.Namespace, network: Network) -> str:
    """The rung that `add_rung`'s arguments say. Raises FpgmError for one that the network does not have."""
    asked = chosen.rung or ("as_is" if chosen.no_recalibrate else None)
    return usual_rung(network) if asked is None else check_rung(network, asked)


def add_place(parser: argparse.ArgumentParser, precision: bool = True) -> None:
    """The arguments that say where to compute."""
    parser.add_argument("--device", choices=DEVICES, default="auto")
    if precision:
        parser.add_argument("--precision", choices=PRECISIONS, default="auto")


def config_of(chosen: argparse.Namespace) -> EvaluationConfig:
    """Where to compute, as `add_place`'s arguments say."""
    return EvaluationConfig(chosen.device, chosen.precision)


def opened(chosen: argparse.Namespace) -> Network:
    """The network of `add_model`'s arguments; what must be known of its weights goes to stderr."""
    network = network_of(chosen)
    if network.notice:
        print(f"note: {network.notice}", file=sys.stderr)
    return network


def plan_of(chosen: argparse.Namespace, network: Network) -> Plan:
    """The plan that `add_plan`'s arguments say; of a criterion that needs scores its rates alone are checked."""
    given = {name: getattr(chosen, name) for name in ("criterion", "coupling", "seed", "mix_share", "round_to")}
    if chosen.plan is not None:
        extra = [name for name, value in given.items() if value is not None]
        if extra:
            raise FpgmError(f"the plan says its own {extra[0]}; leave --{extra[0].replace('_', '-')} out")
        plan = Plan.from_json(read_file(chosen.plan, _MOST_OF_A_PLAN, "the plan "))
        network.check(plan)
        return plan
    options = {name: given[name] for name in ("seed", "mix_share", "round_to") if given[name] is not None}
    names = {name: given[name] for name in ("criterion", "coupling") if given[name] is not None}
    return network.plan(chosen.rate, options=SelectionOptions(**options), **names)


def scored(chosen: argparse.Namespace, network: Network, criterion: str) -> Network:
    """The network with the scores that a criterion needs, made with progress where they are made from images."""
    if network.has_scores(criterion):
        return network
    work = score_work(network, criterion, training_of(chosen, network), device=choose_device(chosen_device(chosen)))
    return network.with_scores(criterion, finish(work, f"scoring by {criterion}"))


def chosen_device(chosen: argparse.Namespace) -> str:
    """The name of the device to compute on: "auto" for commands that do not ask."""
    return getattr(chosen, "device", "auto")


def pruned_of(chosen: argparse.Namespace, network: Network) -> PrunedNetwork:
    """The pruned network that `add_plan`'s arguments say."""
    plan = plan_of(chosen, network)
    return scored(chosen, network, plan.criterion).prune(plan)


def recovered(chosen: argparse.Namespace, pruned: PrunedNetwork, method: str) -> PrunedNetwork:
    """A pruned network brought onto a rung, with progress; its notice goes to stderr."""
    record = get_recovery_method(method)
    if pruned.prunes_nothing:
        return pruned
    training = training_of(chosen, pruned.network) if record.needs_images else None
    context = RecoveryContext(choose_device(chosen_device(chosen)))
    result = finish(record.work(pruned, training, context), record.title.lower())
    if result.notice:
        print(f"note: {result.notice}", file=sys.stderr)
    return result


def about(network: Network) -> dict[str, Any]:
    """The network's part of a JSON result."""
    return {
        "model": network.name,
        "weights": network.weights,
        "trained": network.trained,
        "fingerprint": network.fingerprint,
        "notice": network.notice,
    }


def show(chosen: argparse.Namespace, result: dict[str, Any], text: str) -> None:
    """The result: one JSON object where that was asked for, else text."""
    print(json.dumps(result) if chosen.json else text)
