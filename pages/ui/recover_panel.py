"""Training the plan on screen in the background: choices, curves, before and after."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from fpgm_core import Network, Plan
from fpgm_core.data import DATA, load_images
from fpgm_core.figures import training_figure
from fpgm_core.recovery import RECOVERY_METHODS, Mended, repair_steps
from fpgm_core.runtime.device import choose_device
from fpgm_core.training import SCHEDULES, Recipe, Recovered, Run, recover_steps
from pages.ui.jobs import Job, engine
from pages.ui.sitting import Session
from pages.ui.top_bar import time_left

_HELD = "recovery"


@dataclass(eq=False)
class _Recovery:
    """A training under way or ended, of one plan, with the switch that stops it and the rung that it began on."""

    plan: str
    job: Job[Run | Recovered]
    stop: threading.Event
    began: str = "recalibrated"
    run: Run | None = None  # the latest, which measuring does not overwrite


def recovered(here: Session) -> Recovered | None:
    """What training reached for the plan on screen, in this sitting; None where it was not trained."""
    held = st.session_state.get(_HELD)
    if isinstance(held, _Recovery) and held.plan == here.look.plan.key and isinstance(held.job.latest, Recovered):
        return held.job.latest
    return None


def recover_panel(here: Session) -> None:
    """The choices, and the training of the plan on screen."""
    info = here.network
    if not here.network.trained or info.dataset not in DATA:
        st.info("Training starts from trained weights and needs images; open a network that has both.")
        return
    held: _Recovery | None = st.session_state.get(_HELD)
    recipe, schedule, copy, repaired = _choices(here, running=held is not None and not held.job.done)
    if held is None or held.plan != here.look.plan.key:
        bundled = f"the {len(load_images(info.dataset, 'train')):,} bundled training images"
        st.caption(
            f"Trains on {'your copy' if copy else bundled}, in the background: other pages stay usable. Accuracy is "
            "then measured on both halves of the test images."
        )
        if held is not None and not held.job.done:
            st.info("Another plan is being trained; starting this one stops it.")
    busy = held is not None and not held.job.done and held.plan == here.look.plan.key
    if st.button("Train", type="primary", key="train", disabled=busy):
        st.session_state[_HELD] = held = _begin(here, recipe, schedule, copy, repaired)
    if held is not None and held.plan == here.look.plan.key:
        _watch(here, held)


def _choices(here: Session, running: bool) -> tuple[Recipe, str, Path | None, bool]:
    """Recipe, schedule, where the person's own copy of the data set is, and whether to repair before training."""
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
    taught = distil.toggle(
        "Learn from the dense network",
        value=True,
        key="distil",
        disabled=running,
        help="Half of the loss compares with the dense network's answers (distillation).",
    )
    own, first = st.columns([4.9, 1.4], vertical_alignment="bottom")
    repaired = first.toggle(
        "Repair first",
        value=here.look.rung == "repaired",
        key="repair_first",
        disabled=running,
        help=f"Training begins with the repaired network. {RECOVERY_METHODS['repaired'].summary}",
    )
    copy = own.text_input(
        "Your own CIFAR-10",
        key="own_copy",
        placeholder="the bundled training images; or a folder as torchvision keeps it, or an .npz, with all 50,000",
        disabled=running,
    ).strip()
    recipe = Recipe(epochs=count, learning_rate=peak, distillation=0.5 if taught else 0.0)
    return recipe, name, Path(copy) if copy else None, repaired


def _begin(here: Session, recipe: Recipe, schedule: str, copy: Path | None, repaired: bool) -> _Recovery:
    network, plan, stop = here.network, here.look.plan, threading.Event()

    def steps() -> Iterator[Run | Recovered | None]:
        images = load_images(network.dataset, "train", copy)  # in the background: it may be large
        mended: Mended | None = None
        if repaired and not network.prune(plan).prunes_nothing:
            for step in repair_steps(network, network.keep_masks(plan), images=images, device=choose_device("auto")):
                mended = step if isinstance(step, Mended) else None
                yield None
        yield from recover_steps(network, plan, recipe, schedule, images, stop=stop, mended=mended)

    job: Job[Run | Recovered] = engine().run(
        f"{here.session}:recover",
        ("recover", here.session, plan.key, recipe, schedule, repaired, id(stop)),
        steps,
    )
    return _Recovery(plan.key, job, stop, "repaired" if repaired else "recalibrated")


def _watch(here: Session, held: _Recovery) -> None:
    """Progress and curves, redrawn while the training runs; then what it reached."""
    if held.job.done:
        _ended(held, here.network, here.look.plan)
        return

    @st.fragment(run_every=1.0)
    def watch() -> None:
        if held.job.done:
            st.rerun()
        _note(held)
        if held.run is None:
            st.progress(0.0, text="preparing ...")
            return
        st.progress(held.run.done, text=_told(held.run, held.stop.is_set()))
        if held.run.epochs:
            st.plotly_chart(training_figure(held.run), key="curves", config={"displayModeBar": False})

    watch()
    st.button("Stop, and keep what was reached", key="stop_training", on_click=held.stop.set)


def _note(held: _Recovery) -> None:
    latest = held.job.latest
    held.run = latest.run if isinstance(latest, Recovered) else latest or held.run


def _told(run: Run, stopping: bool) -> str:
    if stopping or run.done >= 1:
        return "measuring on both halves ..."
    return f"epoch {len(run.epochs) + 1} of {run.recipe.epochs}{time_left(run.seconds_left)}"


def _ended(held: _Recovery, network: Network, first: Plan) -> None:
    if held.job.error:
        st.error(held.job.error)
        return
    _note(held)
    result = held.job.latest
    assert isinstance(result, Recovered)
    macs = [network.cost(plan).macs for plan in (first, result.plan)]
    st.dataframe(_table(result, held.began, macs), hide_index=True, key="recovered")
    if result.plan != first:
        st.caption("The schedule chose other filters than the plan; Export writes the ones that it ended with.")
    back = result.won_back("sealed")
    if back is not None:
        st.metric(f"Won back of what was lost when {held.began}, sealed half", f"{back:.0%}")
    st.caption(f"After {len(result.run.epochs)} epochs; the last epoch, not the best. Intervals are 95%, paired for "
               "the change against dense. Export can carry these weights.")  # fmt: skip
    if result.run.epochs:
        st.plotly_chart(training_figure(result.run), key="curves", config={"displayModeBar": False})


def _table(result: Recovered, began: str, macs: list[int]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for title, figures, count in zip((began, "trained"), (result.before, result.after), macs, strict=True):
        row: dict[str, Any] = {"": title, "MACs": f"{count:,}"}
        for half, figure in figures.items():
            accuracy, change = figure.accuracy, figure.change
            row[half] = f"{accuracy.value:.2%}  [{accuracy.low:.1%}, {accuracy.high:.1%}]"
            row[f"{half}, change against dense"] = (
                f"{100 * change.value:+.2f} points  [{100 * change.low:+.2f}, {100 * change.high:+.2f}]"
            )
        rows.append(row)
    return pd.DataFrame(rows)
