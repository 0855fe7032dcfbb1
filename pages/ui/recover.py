"""The page Recover: the plan on screen, trained in the background; its choices, curves, before and after."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import streamlit as st

from fpgm_core import Measurement, Plan, PrunedNetwork
from fpgm_core.data import DATA, HALVES, ImageSet, load_images
from fpgm_core.evaluation import measure_work
from fpgm_core.figures import training_figure
from fpgm_core.recovery import RECOVERY_METHODS, RecoveryContext, get_recovery_method
from fpgm_core.runtime.device import choose_device, choose_precision
from fpgm_core.runtime.progress import Progress, Work, within
from fpgm_core.training import SCHEDULES, Recipe, Run, get_schedule
from pages.ui.components.cards import time_left
from pages.ui.session.jobs import Job
from pages.ui.session.session import Session

NUM_WATCHED = 1000  # images of the choose half that are classified after every epoch
_JOB = "training"
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Training:
    """What a training was started with; `before` is the recovery method that it starts from, `stop` ends it early.

    The key of its job: no two are equal, so no two sessions share one.
    """

    plan: Plan
    recipe: Recipe
    schedule: str
    copy: Path | None
    before: str
    stop: threading.Event


@dataclass(frozen=True, eq=False)
class Trained:
    """What training reached, and accuracy by half of the test images, before and after it."""

    pruned: PrunedNetwork
    run: Run
    before: Mapping[str, Measurement]
    after: Mapping[str, Measurement]


def trained_network(session: Session) -> PrunedNetwork | None:
    """What training reached for the plan on screen, in this session; None where it was not trained."""
    job = _job_of_this_plan(session)
    return job.result.pruned if job is not None and job.result is not None else None


def _job_of_this_plan(session: Session) -> Job[Trained] | None:
    job = session.jobs.get(_JOB)
    return job if job is not None and _training(job).plan == session.state.plan else None


def _training(job: Job[Trained]) -> Training:
    """What a job of _JOB was started with."""
    assert isinstance(job.key, Training)
    return job.key


def recover_page(session: Session) -> None:
    """The choices, and the training of the plan on screen."""
    network = session.network
    if not network.trained or network.dataset not in DATA:
        st.info("Training starts from trained weights and needs images; open a network that has both.")
        return
    latest = session.jobs.get(_JOB)
    running = latest is not None and not latest.done
    training = _choices(session, running)
    job = _job_of_this_plan(session)
    if job is None:
        bundled = f"the {len(load_images(network.dataset, 'train')):,} bundled training images"
        st.caption(
            f"Trains on {'your copy' if training.copy else bundled}, in the background: other pages stay usable. "
            "Afterwards accuracy is measured on both halves of the test images."
        )
        if running:
            st.info("Another plan is being trained; starting this one stops it.")
    if st.button("Train", type="primary", key="train", disabled=job is not None and not job.done):
        job = session.jobs.start(_JOB, lambda: _training_work(network.prune(training.plan), training), key=training)
    if job is not None:
        _watch(session, job)


def _choices(session: Session, running: bool) -> Training:
    """What a training begun now is started with."""
    recipe, schedule = _recipe_choices(running)
    own, first = st.columns([4.9, 1.4], vertical_alignment="bottom")
    repaired = first.toggle(
        "Repair first",
        value=session.state.method == "repaired",
        key="repair_first",
        disabled=running,
        help=f"Training starts from the repaired network. {RECOVERY_METHODS['repaired'].summary}",
    )
    copy = own.text_input(
        "Your own CIFAR-10",
        key="own_copy",
        placeholder="the bundled training images; or torchvision's folder, or an .npz file, with all 50,000",
        disabled=running,
    ).strip()
    return Training(
        plan=session.state.plan,
        recipe=recipe,
        schedule=schedule,
        copy=Path(copy) if copy else None,
        before="repaired" if repaired else "recalibrated",
        stop=threading.Event(),
    )


def _recipe_choices(running: bool) -> tuple[Recipe, str]:
    """Recipe and schedule."""
    schedule, epochs, rate, distil = st.columns([2.2, 2, 1.2, 1.4], vertical_alignment="bottom")
    name = schedule.selectbox(
        "Schedule",
        list(SCHEDULES),
        format_func=lambda name: SCHEDULES[name].title,
        help="  \n".join(f"**{record.title}**: {record.summary}" for record in SCHEDULES.values()),
        key="schedule",
        disabled=running,
    )
    count = epochs.slider("Epochs", 1, 100, 20, key="epochs", disabled=running)
    peak = rate.number_input("Peak learning rate", 0.0001, 1.0, 0.05, format="%.4f", key="peak", disabled=running)
    distils = distil.toggle(
        "Learn from the dense network",
        value=True,
        key="distil",
        disabled=running,
        help="Half of the loss compares its answers with the dense network's (distillation).",
    )
    return Recipe(epochs=count, learning_rate=peak, distillation=0.5 if distils else 0.0), name


def _training_work(first: PrunedNetwork, training: Training) -> Work[Trained]:
    """Recover by the first method, train, and measure before and after; a Progress of training has the Run so far."""
    yield Progress(0.0, what="preparing")
    dataset = first.network.dataset
    images = load_images(dataset, "train", training.copy)  # in the background: it may be large
    halves = {half: load_images(dataset, half) for half in HALVES}
    before = first
    if not first.prunes_nothing:
        recovery = get_recovery_method(training.before).work(first, images, _context())
        before = yield from within(_without_partial(recovery), 0, 0)
    # What is trained in dense shapes begins with the loaded weights, unless they were to be repaired.
    start = before if training.before == "repaired" or get_schedule(training.schedule).compact else first
    run, work = Run(training.recipe), fine_tune_work(start, images, training, watched=halves[HALVES[0]])
    with closing(work):
        while True:
            try:
                progress = next(work)
            except StopIteration as end:
                pruned: PrunedNetwork = end.value
                break
            run = progress.partial if isinstance(progress.partial, Run) else run
            yield replace(progress, partial=run)
    measured = [dict[str, Measurement](), dict[str, Measurement]()]
    for network, by_half in zip((before, pruned), measured, strict=True):
        for half, part in halves.items():
            measuring = measure_work(network, part, preview=False)
            by_half[half] = yield from within(_without_partial(measuring), 1, 1, "measuring on both halves")
    return Trained(pruned, run, *measured)


def fine_tune_work(
    pruned: PrunedNetwork, images: ImageSet, training: Training, *, watched: ImageSet
) -> Work[PrunedNetwork]:
    """Train by the registry's method that trains; each Progress has the Run so far."""
    method = next(method for method in RECOVERY_METHODS.values() if method.trains)
    return method.work(
        pruned,
        images,
        _context(),
        recipe=training.recipe,
        schedule=training.schedule,
        watched=watched.first(min(NUM_WATCHED, len(watched))),
        stop=training.stop,
    )


def _context() -> RecoveryContext:
    device = choose_device("auto")
    return RecoveryContext(device, choose_precision("auto", device))


def _without_partial(work: Work[T]) -> Work[T]:
    """The same work without its partial results, which are not what the page draws."""
    with closing(work):
        while True:
            try:
                progress = next(work)
            except StopIteration as end:
                result: T = end.value
                return result
            yield replace(progress, partial=None)


def _watch(session: Session, job: Job[Trained]) -> None:
    """Progress and curves, redrawn while the training runs; then what it reached."""
    training = _training(job)
    if job.error:
        st.error(job.error)
    if job.done:
        if job.result is not None:
            _result(session, training, job.result)
        return

    @st.fragment(run_every=1.0)
    def watch() -> None:
        run: Run | None = job.partial
        if job.done:
            st.rerun()
        if run is None:
            st.progress(0.0, text="preparing ...")
            return
        st.progress(run.done, text=_status(run, training.stop.is_set()))
        if run.epochs:
            st.plotly_chart(training_figure(run), key="curves", config={"displayModeBar": False})

    watch()
    st.button("Stop, and keep what was reached", key="stop_training", on_click=training.stop.set)


def _status(run: Run, stopping: bool) -> str:
    if stopping or run.done >= 1:
        return "measuring on both halves ..."
    return f"epoch {len(run.epochs) + 1} of {run.recipe.epochs}{time_left(run.seconds_left)}"


def _result(session: Session, training: Training, trained: Trained) -> None:
    macs = [session.network.cost(training.plan).macs, trained.pruned.cost.macs]
    st.dataframe(_table(trained, training.before, macs), hide_index=True, key="recovered")
    if trained.pruned.plan != training.plan:
        st.caption("The schedule chose other filters than the plan; Export writes the ones that it ended with.")
    share = trained.after["sealed"].won_back(trained.before["sealed"])
    if share is not None:
        st.metric(f"Won back of what was lost when {training.before}, sealed half", f"{share:.0%}")
    st.caption(
        f"After {len(trained.run.epochs)} epochs; the last epoch, not the best. Intervals are 95%, paired for the "
        "change against dense. Export can carry these weights."
    )
    if trained.run.epochs:
        st.plotly_chart(training_figure(trained.run), key="curves", config={"displayModeBar": False})


def _table(trained: Trained, before: str, macs: list[int]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for title, by_half, count in zip((before, "trained"), (trained.before, trained.after), macs, strict=True):
        row: dict[str, Any] = {"": title, "MACs": f"{count:,}"}
        for half, measurement in by_half.items():
            accuracy, change = measurement.accuracy, measurement.change
            row[half] = f"{accuracy.value:.2%}  [{accuracy.low:.1%}, {accuracy.high:.1%}]"
            row[f"{half}, change against dense"] = (
                f"{100 * change.value:+.2f} points  [{100 * change.low:+.2f}, {100 * change.high:+.2f}]"
            )
        rows.append(row)
    return pd.DataFrame(rows)
