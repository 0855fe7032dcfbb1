"""Measured plans as lists and points: read from the visitor's history, labelled, one click back to each."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from fpgm_core import COUPLINGS, FpgmError, Network, Plan
from fpgm_core.criteria import get_criterion
from fpgm_core.data import load_images
from fpgm_core.evaluation import HistoryEntry, wilson
from fpgm_core.figures import TracePoint
from fpgm_core.lesson import Words
from fpgm_core.recovery import get_recovery_method
from fpgm_core.runtime.cache import Cache
from pages.ui.components.telling import plain, told
from pages.ui.panels.pictures import labels_of
from pages.ui.session.networks import why_unmeasured
from pages.ui.session.session import Session
from pages.ui.session.view_state import ViewState


@dataclass(frozen=True)
class _Read:
    """What was read of a history, and the history's stamp before that."""

    stamp: Hashable
    entries: tuple[HistoryEntry, ...]

    @property
    def bytes(self) -> int:
        """What they take, about: by `whole_size`, which looks at every rate, this took three times the reading."""
        return sum(2048 + 64 * len(entry.plan.rates) + len(entry.answers or b"") for entry in self.entries)


_READ = Cache[_Read]("history", sizeof=lambda read: read.bytes)


def kept_entries(session: Session, **which: Any) -> tuple[HistoryEntry, ...]:
    """Entries of the visitor's history, latest first, `which` as for `History.entries`; read anew where it changed."""
    history = session.kept_plans
    key, stamp = (str(history.path), *sorted(which.items())), history.stamp
    read = _READ.get(key)
    if read is None or read.stamp != stamp:
        read = _Read(stamp, history.entries(**which))
        _READ.put(key, read)  # in place of what was read before the change, which nobody asks for again
    return read.entries


def entries_beside(session: Session, **which: Any) -> tuple[HistoryEntry, ...]:
    """As `kept_entries`, for what is more than its entries: none, and a line that says why, where it cannot be read."""
    try:
        return kept_entries(session, **which)
    except FpgmError as error:
        st.error(plain(session.words.phrase(told(error))))
        return ()


def comparable_entries(session: Session, limit: int) -> tuple[HistoryEntry, ...]:
    """What was measured of the network on screen on all its choose images, latest first."""
    network = session.network
    if why_unmeasured(network) is not None:
        return ()
    digest = load_images(network.dataset, "choose").digest
    return entries_beside(session, fingerprint=network.fingerprint, digest=digest, limit=limit)


def plan_label(plan: Plan, method: str, words: Words) -> str:
    """A plan in a few words: criterion, coupling, rates, and the rung where it is not the usual one."""
    rates = sorted(set(plan.rates.values()))
    spread = f"{rates[0]:.0%}" if rates else words("trace.nothing")
    if len(rates) > 1:
        spread = words("trace.rates", low=rates[0], high=rates[-1])
    said = [words.of(get_criterion(plan.criterion)), words.of(COUPLINGS[plan.coupling]).lower(), spread]
    if method != ViewState.method:
        said.append(rung_title(method, words))
    return ", ".join(said)


def rung_title(method: str, words: Words) -> str:
    """A rung as it is called within a sentence."""
    return words.of(get_recovery_method(method)).lower()


def point_of(entry: HistoryEntry, words: Words) -> TracePoint:
    """An entry as a point of accuracy against MACs."""
    return TracePoint(entry.name or plan_label(entry.plan, entry.method, words), entry.macs, entry.accuracy)


def top5_column(entries: Sequence[HistoryEntry], words: Words) -> dict[str, list[float | None]]:
    """Top-5 in percent as a column of a table; none where no plan has it."""
    found = [entry.measurement.top5 for entry in entries]
    return {words("sheet.top5"): [None if top5 is None else 100 * top5.value for top5 in found]} if any(found) else {}


def dense_point(entries: Sequence[HistoryEntry], words: Words) -> TracePoint:
    """The dense network as those entries were paired with it: measured on the most images."""
    most = max(entries, key=lambda entry: entry.num_images)
    return TracePoint(labels_of(words)["dense"], most.dense_macs, wilson(most.num_dense_correct, most.num_images))


def restore(session: Session, entry: HistoryEntry) -> None:
    """Put a kept plan on the bars, with its network where another is on screen; where that cannot be, say why."""
    plan = entry.plan

    def move(network: Network) -> None:
        if network.fingerprint != plan.fingerprint:
            raise FpgmError(session.words("history.gone", model=plan.model))
        session.go(replace(session.state_of(network), plan=plan, method=entry.method))

    session.with_network(plan, move)
