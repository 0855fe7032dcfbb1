"""The page Recover: the plan on screen, trained in the background; its choices, curves, before and after."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from fpgm_core import Plan
from fpgm_core.data import DATA, load_images
from fpgm_core.figures import training_figure
from fpgm_core.recovery import RECOVERY_METHODS, Mended, repair_steps
from fpgm_core.runtime.device import choose_device
from fpgm_core.runtime.progress import Progress, Work
from fpgm_core.training import SCHEDULES, Recipe, Recovered, Run, recover_steps
from pages.ui.components.cards import time_left
from pages.ui.session.jobs import Job, from_steps
from pages.ui.session.session import Session

_JOB = "training"


@dataclass(frozen=True, eq=False)
class Training:
    """What a training was started with: the plan, the method that it starts from, and the switch that stops it.

    The key of its job: no two are equal, so no two sessions share one.
    """

    plan: Plan
    before: str
    stop: threading.Event


def recovered(session: Session) -> Recovered | None:
    """What training reached for the plan on screen, in this session; None where it was not trained."""
    job = _job_of_this_plan(session)
    return None if job is None else job.result


def _job_of_this_plan(session: Session) -> Job[Recovered] | None:
    job = session.jobs.get(_JOB)
    return job if job is not None and _training(job).plan == session.state.plan else None


def _training(job: Job[Recovered]) -> Training:
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
    recipe, schedule, copy, repaired = _choices(session, running)
    job = _job_of_this_plan(session)
    if job is None:
        bundled = f"the {len(load_images(network.dataset, 'train')):,} bundled training images"
        st.caption(
            f"Trains on {'your copy' if copy else bundled}, in the background: other pages stay usable. Afterwards "
            "accuracy is measured on both halves of the test images."
        )
        if running:
            st.info("Another plan is being trained; starting this one stops it.")
    if st.button("Train", type="primary", key="train", disabled=job is not None and not job.done):
        job = _begin(session, recipe, schedule, copy, repaired)
    if job is not None:
        _watch(session, job)


def _choices(session: Session, running: bool) -> tuple[Recipe, str, Path | None, bool]:
    """Recipe, schedule, the folder of the person's own copy of the data set, and whether to repair before training."""
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
    recipe = Recipe(epochs=count, learning_rate=peak, distillation=0.5 if distils else 0.0)
    return recipe, name, Path(copy) if copy else None, repaired


def _begin(session: Session, recipe: Recipe, schedule: str, copy: Path | None, repaired: bool) -> Job[Recovered]:
    network, plan, stop = session.network, session.state.plan, threading.Event()

    def work() -> Work[Recovered]:
        yield Progress(0.0, what="preparing")
        images = load_images(network.dataset, "train", copy)  # in the background: it may be large
        mended: Mended | None = None
        if repaired and not network.prune(plan).prunes_nothing:
            masks, device = network.keep_masks(plan), choose_device("auto")
            mended = yield from from_steps(lambda: repair_steps(network, masks, images=images, device=device))()
        trained: Recovered = yield from from_steps(
            lambda: recover_steps(network, plan, recipe, schedule, images, stop=stop, mended=mended)
        )()
        return trained

    before = "repaired" if repaired else "recalibrated"
    return session.jobs.start(_JOB, work, key=Training(plan, before, stop))


def _watch(session: Session, job: Job[Recovered]) -> None:
    """Progress and curves, redrawn while the training runs; then what it reached."""
    if job.error:
        st.error(job.error)
    if job.done:
        if job.result is not None:
            _result(session, _training(job), job.result)
        return
    training = _training(job)

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


def _result(session: Session, training: Training, result: Recovered) -> None:
    macs = [session.network.cost(plan).macs for plan in (training.plan, result.plan)]
    st.dataframe(_table(result, training.before, macs), hide_index=True, key="recovered")
    if result.plan != training.plan:
        st.caption("The schedule chose other filters than the plan; Export writes the ones that it ended with.")
    share = result.won_back("sealed")
    if share is not None:
        st.metric(f"Won back of what was lost when {training.before}, sealed half", f"{share:.0%}")
    st.caption(
        f"After {len(result.run.epochs)} epochs; the last epoch, not the best. Intervals are 95%, paired for the "
        "change against dense. Export can carry these weights."
    )
    if result.run.epochs:
        st.plotly_chart(training_figure(result.run), key="curves", config={"displayModeBar": False})


def _table(result: Recovered, before: str, macs: list[int]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for title, figures, count in zip((before, "trained"), (result.before, result.after), macs, strict=True):
        row: dict[str, Any] = {"": title, "MACs": f"{count:,}"}
        for half, figure in figures.items():
            accuracy, change = figure.accuracy, figure.change
            row[half] = f"{accuracy.value:.2%}  [{accuracy.low:.1%}, {accuracy.high:.1%}]"
            row[f"{half}, change against dense"] = (
                f"{100 * change.value:+.2f} points  [{100 * change.low:+.2f}, {100 * change.high:+.2f}]"
            )
        rows.append(row)
    return pd.DataFrame(rows)
