"""Always in sight: what is open, what it costs, what it is worth."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import replace

import streamlit as st

from fpgm_core import COUPLINGS, CRITERIA, FpgmError
from fpgm_core.criteria import get_criterion
from fpgm_core.evaluation import Figure, Repairing
from fpgm_core.graph import Cost
from fpgm_core.models import cifar_models, list_models
from pages.ui.live import LIVE
from pages.ui.sitting import Session, first_look, mirror
from pages.ui.waiting import progress

STYLE = """
[data-testid="stLayoutWrapper"]:has(> .st-key-topbar) { position: sticky; top: 0; z-index: 90;
  background: light-dark(#ffffff, #16181b); border-bottom: 1px solid rgba(128,128,128,.3);
  padding: .5rem 0 .4rem; }
[data-testid="stMainBlockContainer"] { padding: .4rem 2.6rem 3rem; }
[data-testid="stHeader"] { background: transparent; height: 2rem; min-height: 2rem; pointer-events: none; }
[data-testid="stHeader"] > * { pointer-events: none; }
[data-testid="stHeader"] button { pointer-events: auto; }
.st-key-tools button { padding: .2rem .3rem; }
[data-testid="stStatusWidget"] { display: none; }
[data-testid="stElementContainer"] { transition: none !important; opacity: 1 !important; }
.card { line-height: 1.3; }
.card .label { font-size: .78rem; opacity: .75; white-space: nowrap; }
.card .value { font-size: 1.55rem; font-weight: 650; font-variant-numeric: tabular-nums; white-space: nowrap; }
.card .value small { font-size: .9rem; font-weight: 500; }
.card .under { font-size: .76rem; opacity: .85; font-variant-numeric: tabular-nums; }
.card .state { display: inline-block; font-size: .68rem; padding: 0 .4em; border-radius: .6em; margin-left: .4em;
  border: 1px solid currentColor; }
"""


def navigation() -> None:
    """The pages, one link each."""
    with st.container(key="navigation", horizontal=True, gap="small"):
        st.page_link("app.py", label="Explore")
        st.page_link("pages/4_Learn.py", label="Learn")
        st.page_link("pages/3_Replaceability.py", label="Replaceability")
        st.page_link("pages/5_Sensitivity.py", label="Sensitivity")
        st.page_link("pages/2_Recover.py", label="Recover")
        st.page_link("pages/1_Export.py", label="Export")


def plan_heading(here: Session, title: str) -> None:
    """The top of a page about the plan that Explore shows: navigation, what the plan is, what it costs."""
    here.begin()
    st.html(f"<style>{STYLE}</style>")
    navigation()
    network, plan = here.network, here.look.plan
    cost = network.cost(plan)
    name, macs, params = st.columns([3, 1.4, 1.4], vertical_alignment="center")
    name.subheader(title, anchor=False)
    name.markdown(
        f"**{network.title}** · {get_criterion(plan.criterion).title} · {COUPLINGS[plan.coupling].title}: "
        "the plan on Explore"
    )
    macs.html(macs_card(cost, network.dense_cost))
    params.html(params_card(cost, network.dense_cost))
    if network.notice:
        st.warning(network.notice)


def card(label: str, value: str, under: str = "", state: str = "") -> str:
    """One figure of the top bar as HTML; every text is escaped, `value` may carry a <small> part after a bar."""
    main, _, rest = value.partition("|")
    badge = f'<span class="state">{html.escape(state)}</span>' if state else ""
    small = f" <small>{html.escape(rest)}</small>" if rest else ""
    return (
        f'<div class="card"><div class="label">{html.escape(label)}{badge}</div>'
        f'<div class="value">{html.escape(main)}{small}</div><div class="under">{html.escape(under)}</div></div>'
    )


def millions(count: int) -> str:
    """A count in the unit that reads best: 19.10 M, 4.09 G, 128.8 k."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.2f} {unit}" if size > 1e3 else f"{count / size:.1f} {unit}"
    return str(count)


def macs_card(cost: Cost, dense: Cost, words: Mapping[str, str] = LIVE) -> str:
    """MACs and what was cut of them."""
    return _cost_card(words["macs"], cost.macs, dense.macs, words)


def params_card(cost: Cost, dense: Cost, words: Mapping[str, str] = LIVE) -> str:
    """Parameters and what was cut of them."""
    return _cost_card(words["params"], cost.params, dense.params, words)


def _cost_card(label: str, now: int, dense: int, words: Mapping[str, str]) -> str:
    under = words["of"].format(now=f"{now:,}", dense=f"{dense:,}")
    return card(label, f"{millions(now)}|−{1 - now / dense:.1%}", under)


def _points(fraction: float) -> str:
    """A change of accuracy in percentage points, with a real minus sign."""
    return f"{fraction * 100:+.2f}".replace("-", "−")


def accuracy_card(
    figure: Figure | None,
    repairing: Repairing | None,
    error: str | None,
    moving: bool,
    trained: bool,
    words: Mapping[str, str] = LIVE,
) -> str:
    """Accuracy with its interval and the paired change, and how far the measurement is."""
    label = words["accuracy"]
    if not trained:
        return card(label, "—", words["untrained"], words["not_measured"])
    if error:
        return card(label, "—", error, words["failed"])
    if moving:
        return card(label, "…", words["at_rest"], words["moving"])
    if repairing:
        return card(label, "…", words["refitting"], words["repairing"].format(share=repairing.share))
    if figure is None:
        return card(label, "…", words["coming"], words["measuring"])
    accuracy, change = figure.accuracy, figure.change
    state = words["running" if figure.state == "measuring" else figure.state].format(
        images=figure.images, total=figure.total
    )
    moved = f"{_points(change.value)} [{_points(change.low)}, {_points(change.high)}]"
    notes = [f"[{accuracy.low:.1%}, {accuracy.high:.1%}]", words["change"].format(change=moved)]
    notes += [words["short"]] * figure.short_of_memory
    notes += [words["lost"].format(lost=device, device=figure.device) for device in figure.lost]
    dense = words["dense"].format(accuracy=figure.dense_accuracy.value)
    return card(label, f"{accuracy.value:.2%}|{dense}", " · ".join(notes), state)


def time_left(seconds: float | None) -> str:
    """How much longer something takes, to go on a sentence with; nothing where one cannot tell."""
    if seconds is None:
        return ""
    return f", about {seconds / 60:.0f} min left" if seconds > 90 else f", about {seconds:.0f} s left"


@st.cache_data(show_spinner=False)
def _titles() -> dict[str, str]:
    own = {info.name for info in cifar_models()}
    return {
        info.name: f"{info.title}{'' if info.record else ' (no weights)'}"
        if info.name in own
        else f"{info.name} (ImageNet)"
        for info in list_models()
    }


def scoring(here: Session) -> None:
    """How far the scores are that the criterion chosen needs, where it waits for them."""
    pending = here.pending
    if pending is None:
        return
    if pending.job.done:
        here.arrive()
        st.rerun()
    title = get_criterion(pending.look.plan.criterion).title
    doing = f"{title} looks at the whole network first, on training images"
    # A bar that is moved meanwhile gives it up, and only the bars are drawn then.
    progress(pending.job, doing, "Cancel", "cancel_scores", lambda now: now.give_up(), lambda: here.pending is pending)


def pickers(here: Session) -> None:
    """Model, criterion and coupling."""
    plan = here.look.plan
    titles = _titles()
    model, criterion, coupling = st.columns([1.55, 1.05, 1.15], gap="small")
    model.selectbox("Model", list(titles), format_func=titles.__getitem__, **mirror("model", plan.model, _open))
    criterion.selectbox(
        "Criterion",
        list(CRITERIA),
        format_func=lambda name: CRITERIA[name].title,
        help="  \n".join(f"**{record.title}**: {record.summary}" for record in CRITERIA.values()),
        **mirror("criterion", plan.criterion, _set_criterion),
    )
    coupling.selectbox(
        "Coupling",
        list(COUPLINGS),
        format_func=lambda name: COUPLINGS[name].title,
        help="  \n".join(f"**{record.title}**: {record.summary}" for record in COUPLINGS.values()),
        **mirror("coupling", plan.coupling, _set_coupling),
    )


def _open(here: Session, model: str) -> None:
    plan = here.look.plan
    try:
        here.go(first_look(model, plan.criterion, plan.coupling))
    except FpgmError as error:
        here.refuse(error)


def _set_criterion(here: Session, criterion: str) -> None:
    here.change(plan=replace(here.look.plan, criterion=criterion))


def _set_coupling(here: Session, coupling: str) -> None:
    """Rates and locks of units that both couplings have stay; the others' are dropped."""
    plan = here.look.plan
    units = {unit.name for unit in here.network.units(coupling)}
    changed = replace(
        plan,
        coupling=coupling,
        rates={unit: rate for unit, rate in plan.rates.items() if unit in units},
        locked_in={unit: indices for unit, indices in plan.locked_in.items() if unit in units},
        locked_out={unit: indices for unit, indices in plan.locked_out.items() if unit in units},
    )
    here.change(plan=changed)
