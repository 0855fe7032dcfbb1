"""Commands that train: from scratch, after pruning, and the paper's table. Under torchrun, on several devices."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from fpgm_core.cli.arguments import Command, about, add_model, add_plan, plan_of, progress, rate_of, show
from fpgm_core.data import ImageSet, load_images
from fpgm_core.errors import FpgmError
from fpgm_core.pruning import Network, Plan
from fpgm_core.recovery import Mended, repair_steps
from fpgm_core.runtime.device import DEVICES, PRECISIONS, choose_device
from fpgm_core.runtime.distributed import world
from fpgm_core.runtime.storage import write_atomic
from fpgm_core.training import (
    CONTROLS,
    RECIPES,
    SCHEDULES,
    Epoch,
    Outcome,
    Recipe,
    Recovered,
    Run,
    Trainer,
    cases,
    outcome_steps,
    recover_steps,
    run_case,
    table,
    write_outcome,
)

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
    parser.add_argument("--data", type=Path, help="your copy of the data set: torchvision's folder, or an .npz")
    parser.add_argument("--download", action="store_true", help="fetch the data set into --data if it is not there")
    parser.add_argument("--out", type=Path, required=True, help="the folder for checkpoints and results; gone on from")
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto")
    parser.add_argument("--tensorboard", type=Path, help="also log every epoch for TensorBoard, into this folder")


def _plan(chosen: argparse.Namespace, network: Network) -> tuple[Network, Plan]:
    """The network with its scores, and the plan; beside a plan's file --seed is the run's alone."""
    return plan_of(argparse.Namespace(**{**vars(chosen), "seed": None if chosen.plan else chosen.seed}), network)


def _data(chosen: argparse.Namespace, dataset: str) -> Any:
    if chosen.download and chosen.data is None:
        raise FpgmError("--download needs --data, the folder to fetch into")
    if world().is_main:  # the others find what the first has fetched
        load_images(dataset, "train", chosen.data, chosen.download)
    world().wait()
    return load_images(dataset, "train", chosen.data)


@contextmanager
def _told(chosen: argparse.Namespace, name: str = "") -> Iterator[Any]:
    """A function that takes each Run: progress on stderr, a line and TensorBoard's scalars an epoch."""
    board, said = _board(chosen.tensorboard / name if chosen.tensorboard else None), 0

    def tell(run: Run) -> None:
        nonlocal said
        if not world().is_main:
            return
        progress("", 1)
        for epoch in run.epochs[said:] if said else run.epochs[-1:]:  # gone on with, a run says where it is
            print(_line(name, epoch, run.recipe.epochs), file=sys.stderr, flush=True)
            if board is not None:
                _log(board, epoch)
        said, left = len(run.epochs), run.seconds_left
        time = f", about {left / 60:.0f} min left" if left else ""
        progress(f"{name} epoch {min(said + 1, run.recipe.epochs)} of {run.recipe.epochs}{time}", run.done)

    try:
        yield tell
    finally:
        if board is not None:
            board.close()


def _line(name: str, epoch: Epoch, epochs: int) -> str:
    return (
        f"{name + ': ' if name else ''}epoch {epoch.number} of {epochs}: loss {epoch.loss:.4f}, training accuracy "
        f"{epoch.training_accuracy:.2%}, {epoch.correct} of {epoch.images} of the choose half right, "
        f"{f'{epoch.changed:.1%} of the pruned are new, ' if epoch.changed else ''}{epoch.seconds:.1f} s"
    )


def _board(folder: Path | None) -> Any:
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
        "accuracy/choose": epoch.correct / epoch.images,
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
    given = chosen.weights or (None if chosen.from_weights or chosen.plan else "random")
    network = Network.load(chosen.model, given)
    network, plan = _plan(chosen, network)
    trainer = Trainer(
        network, plan, _recipe(chosen), chosen.schedule, _data(chosen, network.dataset),
        not chosen.from_weights, chosen.device, chosen.precision, chosen.out,
    )  # fmt: skip
    with _told(chosen) as tell:
        tell(trainer.run)  # gone on with, it has something to tell
        for run in trainer.steps():
            tell(run)
    outcome = _measured(trainer, chosen.data)
    paths = write_outcome(outcome, chosen.out) if world().is_main else []
    world().wait()
    result = {
        **{key: value for key, value in outcome.about.items() if key != "curve"},
        "accuracy": outcome.accuracy,
        "macs": outcome.macs,
        "dense_macs": outcome.dense_macs,
        "files": [path.name for path in paths],
    }
    show(chosen, result, "\n".join((_accuracies(outcome), *(f"wrote {path}" for path in paths))))
    return 0


def _measured(trainer: Trainer, data: Path | None) -> Outcome:
    for step in outcome_steps(trainer, data):
        if isinstance(step, float):
            progress("measuring", step)
    assert isinstance(step, Outcome)
    progress("", 1)
    return step


def _accuracies(outcome: Outcome) -> str:
    told = ", ".join(f"{split} {part['accuracy']:.2%}" for split, part in outcome.accuracy.items())
    return f"{told}; {outcome.macs:,} of {outcome.dense_macs:,} MACs"


def _recover_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_plan(parser)
    _add_recipe(parser, "finetune")
    _add_run(parser)
    parser.add_argument("--schedule", choices=list(SCHEDULES), default="finetune", help="(default finetune)")
    parser.add_argument("--from-repaired", action="store_true", help="begin with the repaired network's weights")


def _mended(chosen: argparse.Namespace, network: Network, plan: Plan, images: ImageSet) -> Mended | None:
    """The repaired network of a plan that prunes something."""
    if network.prune(plan).prunes_nothing:
        return None
    step: Mended | float = 0.0
    for step in repair_steps(network, network.keep_masks(plan), images=images, device=choose_device(chosen.device)):
        if isinstance(step, float):
            progress("repairing", step)
    assert isinstance(step, Mended)
    if step.notice:
        print(f"note: {step.notice}", file=sys.stderr)
    return step


def _recover(chosen: argparse.Namespace) -> int:
    from fpgm_core.export import Bundle, export_steps, write_bundle  # onnx and the like: only who exports waits

    network = Network.load(chosen.model, chosen.weights)
    network, plan = _plan(chosen, network)
    images = _data(chosen, network.dataset)
    mended = _mended(chosen, network, plan, images) if chosen.from_repaired else None
    with _told(chosen) as tell:
        for step in recover_steps(
            network,
            plan,
            _recipe(chosen),
            chosen.schedule,
            images,
            chosen.device,
            chosen.precision,
            chosen.out,
            mended=mended,
        ):
            if isinstance(step, Run):
                tell(step)
    assert isinstance(step, Recovered)
    if world().is_main:
        for part in export_steps(network, step.plan, trained=step.network, whole=step.whole):
            if not isinstance(part, Bundle):
                progress(part.doing, part.share)
        assert isinstance(part, Bundle)
        write_bundle(part, chosen.out / "export")
    world().wait()
    progress("", 1)
    cost = network.cost(step.plan)
    result = {
        **about(network),
        "recipe": str(step.run.recipe),
        "schedule": chosen.schedule,
        "macs": cost.macs,
        "dense_macs": network.dense_cost.macs,
        "won_back": {half: step.won_back(half) for half in step.before},
        "out": str(chosen.out / "export"),
    }
    lines = [f"{network.dense_cost.macs - cost.macs:,} of {network.dense_cost.macs:,} MACs cut"]
    for half, before in step.before.items():
        after, back = step.after[half], step.won_back(half)
        result[half] = {
            "dense": before.dense_accuracy.value,
            ("repaired" if chosen.from_repaired else "recalibrated"): before.accuracy.value,
            "trained": after.accuracy.value,
        }
        lines.append(
            f"{half:7} dense {before.dense_accuracy.value:.2%}, before {before.accuracy.value:.2%}, trained "
            f"{after.accuracy.value:.2%}" + (f": {back:.0%} of the loss won back" if back is not None else "")
        )
    show(chosen, result, "\n".join((*lines, f"exported into {chosen.out / 'export'}")))
    return 0


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
    images = _data(chosen, "cifar10")
    nets = [net for net in NETS if net in chosen.nets]
    wanted = cases(nets, chosen.rates, chosen.seeds, chosen.controls)
    results = []
    for number, case in enumerate(wanted, 1):
        with _told(chosen, f"{number} of {len(wanted)}, {case.key}") as tell:
            for step in run_case(
                case, _recipe(chosen), images, chosen.out, chosen.data, chosen.device, chosen.precision
            ):
                if isinstance(step, Run):
                    tell(step)
                elif isinstance(step, float):
                    progress("measuring", step)
        assert isinstance(step, dict)
        results.append(step)
        text = table(results)
        if world().is_main:
            _write_table(chosen.out, text, results)
    progress("", 1)
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
