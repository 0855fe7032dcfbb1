"""The page Recover: the plan on screen, trained in the background; its choices, curves, before and after."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from fpgm_core import FpgmError, Measurement, Plan, PrunedNetwork
from fpgm_core.data import DATA, ImageSet, load_images
from fpgm_core.evaluation import measure_work
from fpgm_core.figures import training_figure
from fpgm_core.lesson import Words
from fpgm_core.recovery import RECOVERY_METHODS, RecoveryContext, get_recovery_method, ladder, usual_rung
from fpgm_core.runtime.device import choose_device, choose_precision
from fpgm_core.runtime.limits import configured_count
from fpgm_core.runtime.progress import Progress, Work, within
from fpgm_core.training import SCHEDULES, Recipe, Run, get_schedule
from pages.ui.components.telling import plain, told
from pages.ui.panels.pickers import glossed
from pages.ui.panels.pictures import labels_of
from pages.ui.session.jobs import Job
from pages.ui.session.networks import why_unmeasured
from pages.ui.session.opening import below_roots, data_roots
from pages.ui.session.recovered import Trained, trained_networks
from pages.ui.session.session import Session
from pages.ui.session.widgets import callback

NUM_WATCHED = 1000  # images of the choose half that are classified after every epoch
_JOB = "training"
_EPOCHS, _PEAKS = 100, (0.0001, 1.0)
_TRAINED = next(name for name, method in RECOVERY_METHODS.items() if method.trains)
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


def _job_of_this_plan(session: Session) -> Job[Trained] | None:
    job = session.jobs.get(_JOB)
    return job if job is not None and _training(job).plan == session.state.plan else None


def _training(job: Job[Trained]) -> Training:
    """What a job of _JOB was started with."""
    assert isinstance(job.key, Training)
    return job.key


def recover_page(session: Session) -> None:
    """The choices, and the training of the plan on screen."""
    network, words = session.network, session.words
    why = why_unmeasured(network)
    if why is not None:
        st.warning(words("recover.needs", why=words.phrase(why)))
        return
    latest = session.jobs.get(_JOB)
    running = latest is not None and not latest.done
    try:
        training = _choices(session, running)
    except FpgmError as error:
        st.error(plain(told(error)))
        return
    job = _job_of_this_plan(session)
    if running and job is None:
        st.info(words("recover.another"))
    if st.button(words("recover.train"), type="primary", key="train", disabled=job is not None and not job.done):
        job = _begin(session, training)
    if job is not None and (job.error or not job.done):
        _watch(job, words)
    trained = trained_networks().get(network, session.state.plan, _TRAINED)
    if trained is not None:
        _result(session, trained)
    else:
        _before(session, training)


def _begin(session: Session, training: Training) -> Job[Trained]:
    doing = session.words("recover.doing", network=session.network.title, epochs=training.recipe.epochs)
    first = session.network.prune(training.plan)
    return session.jobs.start(
        _JOB, lambda: _training_work(first, training), key=training, title=doing, end=training.stop.set
    )


def _before(session: Session, training: Training) -> None:
    """Where there is no result yet: what training starts from, and what will be shown of it."""
    dataset, words = session.network.dataset, session.words
    own = words("recover.images", images=len(load_images(dataset, "train")), data=DATA[dataset].title)
    st.caption(words("recover.about", what=words("recover.your_copy") if training.copy else own))
    methods = [RECOVERY_METHODS[name] for name in ladder(session.network)]
    methods.append(get_recovery_method(_TRAINED))
    found = [session.measured(method.name) if not method.trains else None for method in methods]
    top5 = [one and one.top5 and one.top5.percent for one in found]
    table = {
        words("sheet.rung"): [words.of(method) for method in methods],
        words("sheet.choose"): [one and f"{one.accuracy.value:.2%}" for one in found],
        words("sheet.against_dense"): [one and one.change.told(100) for one in found],
        **({words("sheet.choose_top5"): top5} if any(top5) else {}),
        words("sheet.what"): [words.of(method, "summary") for method in methods],
    }
    st.dataframe(pd.DataFrame(table), hide_index=True, placeholder=words("recover.not_measured"))
    limit = most_minutes()
    if limit is not None:
        st.caption(words("recover.minutes", minutes=limit))


def _choices(session: Session, running: bool) -> Training:
    """What a training begun now is started with."""
    words = session.words
    recipe, schedule = _recipe_choices(words, running)
    own, first = st.columns([4.9, 1.4], vertical_alignment="bottom")
    rungs, now = list(ladder(session.network)), session.state.method
    before = first.selectbox(
        words("recover.start"),
        rungs,
        index=rungs.index(now if now in rungs else usual_rung(session.network)),
        format_func=lambda name: words.of(RECOVERY_METHODS[name]),
        key="start_from",
        disabled=running,
        help="  \n".join(f"**{words.of(one)}**: {words.of(one, 'summary')}" for one in map(get_recovery_method, rungs)),
    )
    return Training(
        plan=session.state.plan,
        recipe=recipe,
        schedule=schedule,
        copy=_own_copy(own, session, running),
        before=before,
        stop=threading.Event(),
    )


def _own_copy(place: DeltaGenerator, session: Session, running: bool) -> Path | None:
    """A copy of all training images on this machine, where its owner lets visitors read some; None for those at hand.

    Raises FpgmError for one that they may not read, or that is not there: which of the two is not said.
    """
    words, data = session.words, DATA[session.network.dataset]
    if not data.takes_copy or not data_roots():  # only of some the bundled images are but a tenth
        place.caption(words("recover.open"))
        return None
    path = place.text_input(
        words("recover.own", data=data.title),
        key="own_copy",
        placeholder=words("recover.own_shows"),
        disabled=running,
    ).strip()
    return below_roots(path) if path else None


def _recipe_choices(words: Words, running: bool) -> tuple[Recipe, str]:
    """Recipe and schedule."""
    schedule, epochs, rate, distil = st.columns([2.2, 2, 1.2, 1.4], vertical_alignment="bottom")
    name = schedule.selectbox(
        words("recover.schedule"),
        list(SCHEDULES),
        format_func=lambda name: words.of(SCHEDULES[name]),
        help=glossed(words, SCHEDULES.values()),
        key="schedule",
        disabled=running,
    )
    most = max(2, configured_count("FPGM_EPOCHS", _EPOCHS, most=10_000))
    count = epochs.slider(words("recover.epochs"), 1, most, min(20, most), key="epochs", disabled=running)
    peak = rate.number_input(words("recover.peak"), *_PEAKS, 0.05, format="%.4f", key="peak", disabled=running)
    distils = distil.toggle(
        words("recover.distil"),
        value=True,
        key="distil",
        disabled=running,
        help=words("recover.distil_help"),
    )
    # What a widget says came from a browser: its bounds hold here too.
    bounded = min(max(count, 1), most), min(max(peak, _PEAKS[0]), _PEAKS[1])
    return Recipe(epochs=bounded[0], learning_rate=bounded[1], distillation=0.5 if distils else 0.0), name


def _training_work(first: PrunedNetwork, training: Training) -> Work[Trained]:
    """Recover by the first method, train, and measure before and after; a Progress of training has the Run so far."""
    yield Progress(0.0, what="preparing")
    dataset = first.network.dataset
    images = load_images(dataset, "train", training.copy)  # in the background: it may be large
    choose = load_images(dataset, "choose")
    before = first
    if not first.prunes_nothing:
        recovery = get_recovery_method(training.before).work(first, images, _context())
        before = yield from within(_without_partial(recovery), 0, 0)
    # What is trained in dense shapes begins with the loaded weights, unless recovery made others.
    start = before if _has_new_weights(before) or get_schedule(training.schedule).compact else first
    run, work = Run(training.recipe), fine_tune_work(start, images, training, watched=choose)
    limit, begun = most_minutes(), time.monotonic()
    with closing(work):
        while True:
            if limit is not None and time.monotonic() - begun > 60 * limit:
                training.stop.set()
            try:
                progress = next(work)
            except StopIteration as end:
                pruned: PrunedNetwork = end.value
                break
            run = progress.partial if isinstance(progress.partial, Run) else run
            doing = "ending" if training.stop.is_set() else f"epoch {len(run.epochs) + 1} of {run.recipe.epochs}"
            yield replace(progress, done=run.done, total=1.0, what=doing, seconds_left=run.seconds_left, partial=run)
    measured = []
    for network in (before, pruned):
        measuring = _without_partial(measure_work(network, choose, preview=False))
        measured.append((yield from within(measuring, 1, 1, "measuring what it reached")))
    trained = Trained(pruned, run, before=measured[0], after=measured[1])
    trained_networks().keep(first.network, training.plan, _TRAINED, trained)
    return trained


def most_minutes() -> int | None:
    """How long a training may take: `FPGM_TRAINING_MINUTES`, None where nobody said."""
    return configured_count("FPGM_TRAINING_MINUTES", 0, most=100_000) or None


def _has_new_weights(pruned: PrunedNetwork) -> bool:
    """Whether recovery changed weights, not norm statistics alone."""
    return not pruned.tensors.keys().isdisjoint(dict(pruned.network.module.named_parameters()))


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
        watched=watched.at_most(NUM_WATCHED),
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


def _watch(job: Job[Trained], words: Words) -> None:
    """The curves, redrawn while the training runs; what went wrong."""
    if job.error:
        st.error(plain(words.phrase(job.error)))
        return

    @st.fragment(run_every=1.0)
    def watch() -> None:
        run: Run | None = job.partial
        if run is not None and run.epochs:
            st.plotly_chart(training_figure(run, labels_of(words)), key="curves", config={"displayModeBar": False})

    watch()


def _result(session: Session, trained: Trained) -> None:
    before, after, words = trained.before, trained.after, session.words
    plan = session.state.plan
    macs = [session.network.cost(plan).macs, trained.pruned.cost.macs]
    st.dataframe(_table(trained, macs, words), hide_index=True, key="recovered")
    if trained.pruned.plan != plan:
        st.caption(words("recover.others"))
    share = after.won_back(before)
    if share is not None:
        st.metric(words("recover.won_back", rung=_name_of(before, words)), f"{share:.0%}")
    st.caption(words("recover.after", epochs=len(trained.run.epochs)))
    if session.state.method == _TRAINED:
        st.page_link("pages/1_Export.py", label=words("recover.export"))
    else:
        show = callback(lambda session: session.change(method=_TRAINED))
        st.button(words("recover.stand"), key="stand", on_click=show, help=words("recover.stand_help"))
    if trained.run.epochs:
        st.plotly_chart(training_figure(trained.run, labels_of(words)), key="reached", config={"displayModeBar": False})


def _name_of(measurement: Measurement, words: Words) -> str:
    return words.of(get_recovery_method(measurement.method)).lower()


def _table(trained: Trained, macs: list[int], words: Words) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for measurement, count in zip((trained.before, trained.after), macs, strict=True):
        row = {
            "": _name_of(measurement, words),
            words("sheet.macs"): f"{count:,}",
            words("sheet.choose_short"): measurement.accuracy.percent,
            words("sheet.choose_change"): words("recover.points", change=measurement.change.told(100)),
        }
        if measurement.top5 is not None:
            row[words("sheet.choose_top5")] = measurement.top5.percent
        rows.append(row)
    return pd.DataFrame(rows)
