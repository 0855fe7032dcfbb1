"""Which rung to choose by, in a sentence: what the study of these weights found that ships with the package."""

from __future__ import annotations

import streamlit as st

from fpgm_core import COUPLINGS, CRITERIA, Network
from fpgm_core.allocation import RankingStudy, known_ranking
from fpgm_core.evaluation import Interval
from fpgm_core.lesson import Words
from pages.ui.panels.plan_list import rung_title
from pages.ui.session.language import words_of
from pages.ui.session.session import Session


def trust_caption(session: Session) -> None:
    """The sentence, where these weights were studied."""
    said = _told(session.network.fingerprint, session.words.language, session.network)
    if said is not None:
        st.caption(said)


@st.cache_data(show_spinner=False)
def _told(fingerprint: str, language: str, _network: Network) -> str | None:
    study = known_ranking(_network)
    return None if study is None else trust_told(study, words_of(language))


def trust_told(study: RankingStudy, words: Words) -> str | None:
    """Which rung to choose by, what each ranks at, and on what that stands; None where the study does not say."""
    found, best = study.rungs, study.trusted
    if best is None or study.recipe is None:
        return None
    plan, others = study.plans[0].plan, [name for name in found if name != best]
    behind = ", ".join(rung_title(name, words) for name in study.behind)
    return words(
        "trust.said",
        rung=rung_title(best, words),
        rho=_rho(found[best]),
        others="; ".join(words("trust.other", rung=rung_title(name, words), rho=_rho(found[name])) for name in others),
        sure=words("trust.sure", rungs=behind) if behind else words("trust.unsure"),
        plans=len(study.plans),
        levels=", ".join(f"{level:.0%}" for level in study.levels),
        epochs=study.recipe.epochs,
        training=study.num_training,
        images=study.num_images,
        criterion=words.of(CRITERIA[plan.criterion]),
        coupling=words.of(COUPLINGS[plan.coupling]).lower(),
    )


def _rho(one: Interval) -> str:
    return f"{one.value:.2f} [{one.low:.2f}, {one.high:.2f}]".replace("-", "−")
