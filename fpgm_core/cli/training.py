"""Commands that train: from scratch, after pruning, and the paper's table. Under torchrun, on several devices."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from fpgm_core.cli.arguments import (
    Command,
    about,
    add_model,
    add_place,
    add_plan,
    config_of,
    network_of,
    plan_of,
    rate_of,
    recovered,
    scored,
    show,
)
from fpgm_core.cli.export import add_artefacts, exported
from fpgm_core.cli.images import add_data, halves_of, images_of
from fpgm_core.cli.progress import finish
from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.evaluation import Measurement, measure_work
from fpgm_core.pruning import Network, PrunedNetwork
from fpgm_core.recovery import RecoveryContext, get_recovery_method, usual_rung
from fpgm_core.runtime.device import choose_device, choose_precision
from fpgm_core.runtime.distributed import world
from fpgm_core.runtime.progress import Work
from fpgm_core.runtime.storage import write_atomic
from fpgm_core.training import (
    CONTROLS,
    RECIPES,
    SCHEDULES,
    Epoch,
    Outcome,
    Recipe,
    Run,
    Trainer,
    case_work,
    cases,
    get_schedule,
    outcome_work,
    table,
    write_outcome,
)

T = TypeVar("T")
NUM_WATCHED = 1000  # images of the choose half that are classified after every epoch
NETS = ("resnet20", "resnet56", "resnet110", "resnet32")  # the order in which the paper's table is reproduced


def _add_recipe(parser: argparse.ArgumentParser, default: str) -> None:
    """A recipe by name, and an option for each of its fields that changes it."""
    parser.add_argument("--recipe", choices=list(RECIPES), default=default, help=f"to begin with (default {default})")
    for field in fields(Recipe):
        option, kind = f"--{field.name.replace('_', '-')}", type(getattr(Recipe(), field.name))
        if field.name == "seed":
            continue  # `add_plan` has it: given once, it is the run's and the random criterion's
        if kind is bool:
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=None)
        else:
            parser.add_argument(option, type=kind)


def _recipe(chosen: argparse.Namespace, **more: Any) -> Recipe:
    given = {field.name: getattr(chosen, field.name, None) for field in fields(Recipe)}
    return replace(
        RECIPES[chosen.recipe], **{name: value for name, value in given.items() if value is not None}, **more
    )


def _add_run(parser: argparse.ArgumentParser) -> None:
    """Where to train, on what, and where to write."""
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True, help="the folder for checkpoints and results; resumed from")
    add_place(parser)
    parser.add_argument("--tensorboard", type=Path, help="also log every epoch for TensorBoard, into this folder")


def _pruned(chosen: argparse.Namespace, network: Network) -> PrunedNetwork:
    """The pruned network that training begins with; beside a plan's file --seed is the run's alone."""
    own = argparse.Namespace(**{**vars(chosen), "seed": None if chosen.plan else chosen.seed})
    plan = plan_of(own, network)
    return scored(chosen, network, plan.criterion).prune(plan)


def _training_images(chosen: argparse.Namespace, network: Network) -> ImageSet:
    if world().is_main:  # the others find what the first has fetched and decoded
        images_of(chosen, network, "train")
    world().wait()
    chosen.download = False
    return images_of(chosen, network, "train")


def _watched(halves: Mapping[str, ImageSet]) -> ImageSet:
    """What is classified after every epoch: the first images of the choose half."""
    choose = halves["choose"]
    return choose.first(min(NUM_WATCHED, len(choose)))


def _announced_work(work: Work[T], chosen: argparse.Namespace, name: str = "") -> Work[T]:
    """The same work, telling of every epoch: a line on stderr, and TensorBoard's scalars; `name` says which run."""
    board, num_announced = _board(chosen.tensorboard / name if chosen.tensorboard else None), 0
    try:
        while True:
            progress = next(work)
            if isinstance(progress.partial, Run):
                run = progress.partial
                # A run that was resumed says where it is.
                for epoch in run.epochs[num_announced:] if num_announced else run.epochs[-1:]:
                    _announce(epoch, _line(epoch, run.recipe.epochs, name=name), board=board)
                num_announced = len(run.epochs)
                progress = replace(progress, what=_what(name, run))
            yield progress
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        work.close()
        if board is not None:
            board.close()


def _announce(epoch: Epoch, line: str, *, board: Any) -> None:
    if not world().is_main:
        return
    clear = "\r\033[K" if sys.stderr.isatty() else ""  # of progress
    print(f"{clear}{line}", file=sys.stderr, flush=True)
    if board is not None:
        _log(board, epoch)


def _what(name: str, run: Run) -> str:
    left = run.seconds_left
    time = f", about {left / 60:.0f} min left" if left else ""
    return f"{name} epoch {min(len(run.epochs) + 1, run.recipe.epochs)} of {run.recipe.epochs}{time}".strip()


def _line(epoch: Epoch, epochs: int, *, name: str) -> str:
    return (
        f"{name + ': ' if name else ''}epoch {epoch.number} of {epochs}: loss {epoch.loss:.4f}, training accuracy "
        f"{epoch.training_accuracy:.2%}, {epoch.correct} of {epoch.images} of the choose half right, "
        f"{f'{epoch.changed:.1%} of the pruned are new, ' if epoch.changed else ''}{epoch.seconds:.1f} s"
    )


def _board(folder: Path | None) -> Any:
    """TensorBoard's writer into a folder; None without a folder, and in processes that do not write."""
    if folder is None or not world().is_main:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise FpgmError("TensorBoard is not installed; pip install tensorboard") from error
    return SummaryWriter(str(folder))


def _log(board: Any, epoch: Epoch) -> None:
    values = {
        "loss": epoch.loss,
        "accuracy/training": epoch.training_accuracy,
        "accuracy/choose": epoch.watched_accuracy,
        "learning rate": epoch.learning_rate,
        "selection/new": epoch.changed,
    }
    for name, value in values.items():
        board.add_scalar(name, value, epoch.number)


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_plan(parser, required=False)
    _add_recipe(parser, "official")
    _add_run(parser)
    parser.add_argument("--from-weights", action="store_true", help="start from the weights at hand, not from scratch")
    schedules = [name for name, schedule in SCHEDULES.items() if not schedule.compact]
    parser.add_argument("--schedule", choices=schedules, default="hard", help="when to prune (default hard)")


def _train(chosen: argparse.Namespace) -> int:
    chosen.rate = 0.0 if chosen.rate is None and chosen.plan is None else chosen.rate
    network = network_of(chosen, None if chosen.from_weights or chosen.plan else "random")
    pruned, images = _pruned(chosen, network), _training_images(chosen, network)
    halves = halves_of(chosen, network)
    trainer = Trainer(
        pruned,
        _recipe(chosen),
        images=images,
        schedule=chosen.schedule,
        watched=_watched(halves),
        scratch=not chosen.from_weights,
        device=chosen.device,
        precision=chosen.precision,
        folder=chosen.out,
    )
    finish(_announced_work(trainer.train_work(), chosen))
    outcome = finish(outcome_work(trainer, images=halves))
    paths = write_outcome(outcome, chosen.out) if world().is_main else []
    world().wait()
    result = {
        **{key: value for key, value in outcome.about.items() if key != "curve"},
        "accuracy": outcome.accuracy,
        "macs": outcome.pruned.cost.macs,
        "dense_macs": network.dense_cost.macs,
        "files": [path.name for path in paths],
    }
    show(chosen, result, "\n".join((_accuracies(outcome), *(f"wrote {path}" for path in paths))))
    return 0


def _accuracies(outcome: Outcome) -> str:
    by_split = ", ".join(f"{split} {part['accuracy']:.2%}" for split, part in outcome.accuracy.items())
    pruned = outcome.pruned
    return f"{by_split}; {pruned.cost.macs:,} of {pruned.network.dense_cost.macs:,} MACs"


def _recover_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_plan(parser)
    _add_recipe(parser, "finetune")
    _add_run(parser)
    parser.add_argument("--schedule", choices=list(SCHEDULES), default="finetune", help="(default finetune)")
    parser.add_argument("--from-repaired", action="store_true", help="begin with the repaired network's weights")
    add_artefacts(parser)


def _recover(chosen: argparse.Namespace) -> int:
    network = network_of(chosen)
    if not network.trained:
        raise FpgmError(f"nothing to fine-tune: {network.notice}; train from scratch instead")
    pruned, images = _pruned(chosen, network), _training_images(chosen, network)
    halves = halves_of(chosen, network)
    method = "repaired" if chosen.from_repaired else usual_rung(network)
    before = recovered(chosen, pruned, method)
    # What is trained in dense shapes begins with the loaded weights, unless they were to be repaired.
    begin = before if chosen.from_repaired or get_schedule(chosen.schedule).compact else pruned
    after = finish(_announced_work(_fine_tuned_work(chosen, begin, images=images, watched=_watched(halves)), chosen))
    measured = {
        half: (_measured(chosen, before, part), _measured(chosen, after, part)) for half, part in halves.items()
    }
    if world().is_main:
        exported(chosen, after, splits=halves, folder=chosen.out / "export")
    world().wait()
    _show_recovered(chosen, after, method=method, measured=measured)
    return 0


def _fine_tuned_work(
    chosen: argparse.Namespace, pruned: PrunedNetwork, *, images: ImageSet, watched: ImageSet
) -> Work[PrunedNetwork]:
    device = choose_device(chosen.device)
    return get_recovery_method("fine_tuned").work(
        pruned,
        images,
        RecoveryContext(device, choose_precision(chosen.precision, device)),
        recipe=_recipe(chosen),
        schedule=chosen.schedule,
        watched=watched,
        folder=chosen.out,
    )


def _measured(chosen: argparse.Namespace, pruned: PrunedNetwork, images: ImageSet) -> Measurement:
    return finish(measure_work(pruned, images, config=config_of(chosen), preview=False), "measuring")


def _show_recovered(
    chosen: argparse.Namespace,
    after: PrunedNetwork,
    *,
    method: str,
    measured: Mapping[str, tuple[Measurement, Measurement]],
) -> None:
    """What training won, by half: accuracy before it, on the rung `method`, and after."""
    network, macs = after.network, after.cost.macs
    result = {
        **about(network),
        "recipe": str(_recipe(chosen)),
        "schedule": chosen.schedule,
        "macs": macs,
        "dense_macs": network.dense_cost.macs,
        "won_back": {half: trained.won_back(begun) for half, (begun, trained) in measured.items()},
        "out": str(chosen.out / "export"),
    }
    lines = [f"{network.dense_cost.macs - macs:,} of {network.dense_cost.macs:,} MACs cut"]
    for half, (begun, trained) in measured.items():
        dense, back = begun.dense_accuracy.value, trained.won_back(begun)
        result[half] = {"dense": dense, method: begun.accuracy.value, "trained": trained.accuracy.value}
        lines.append(
            f"{half:7} dense {dense:.2%}, before {begun.accuracy.value:.2%}, trained {trained.accuracy.value:.2%}"
            + (f": {back:.0%} of the loss won back" if back is not None else "")
        )
    show(chosen, result, "\n".join((*lines, f"exported into {chosen.out / 'export'}")))


def _reproduce_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=["table1"], help="the paper's Table 1: CIFAR-10")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--rates", nargs="+", type=rate_of, default=[0.3, 0.4])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--controls", nargs="*", choices=list(CONTROLS), default=[],
                        help="; ".join(f"{name}: {text}" for name, text in CONTROLS.items()))  # fmt: skip
    _add_recipe(parser, "official")
    _add_run(parser)


def _reproduce(chosen: argparse.Namespace) -> int:
    first = Network.load(NETS[0])
    images, halves = _training_images(chosen, first), halves_of(chosen, first)
    nets = [net for net in NETS if net in chosen.nets]
    wanted = cases(nets, chosen.rates, seeds=chosen.seeds, controls=chosen.controls)
    results = []
    for number, case in enumerate(wanted, 1):
        work = case_work(
            case,
            _recipe(chosen),
            training=images,
            images=halves,
            folder=chosen.out,
            watched=_watched(halves),
            device=chosen.device,
            precision=chosen.precision,
        )
        results.append(finish(_announced_work(work, chosen, f"{number} of {len(wanted)}, {case.key}")))
        text = table(results)
        if world().is_main:
            _write_table(chosen.out, text, results)
    show(chosen, {"results": results}, text)
    return 0


def _write_table(folder: Path, text: str, results: list[dict[str, Any]]) -> None:
    write_atomic(folder / "table1.md", text.encode())
    write_atomic(folder / "table1.json", (json.dumps({"results": results}, indent=2) + "\n").encode())


TRAIN = Command("train", "train a network, while pruning it where a rate or plan is given", _train_arguments, _train)
RECOVER = Command(
    "recover", "fine-tune a plan, measure before and after, export the result", _recover_arguments, _recover
)
REPRODUCE = Command(
    "reproduce", "train the paper's table, and controls, beside its figures", _reproduce_arguments, _reproduce
)
