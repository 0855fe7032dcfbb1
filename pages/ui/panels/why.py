"""Why this rate: what each unit's predicted loss is, what one filter more or fewer would do, and what saving costs."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from functools import partial

import pandas as pd
import streamlit as st

from fpgm_core import Plan
from fpgm_core.allocation import Price, bargain, dearest
from fpgm_core.lesson import Words
from pages.ui.components.telling import plain
from pages.ui.session.networks import network_key, why_unmeasured
from pages.ui.session.session import Session
from pages.ui.session.solving import LOSSES, known_losses, losses_work
from pages.ui.session.widgets import callback


def prices_of(session: Session, plan: Plan) -> Mapping[str, Price]:
    """The prices of every unit under a plan, by name; none where nothing was predicted for its like yet."""
    known = known_losses(session.network, plan)
    return {} if known is None else {price.unit: price for price in known.at(session.network, plan)}


def price_words(prices: Mapping[str, Price], words: Words) -> Callable[[str], str]:
    """A function that says why a unit has its rate; "" for a unit without a price."""
    found = tuple(prices.values())
    cheap, dear = bargain(found), dearest(found)

    def told(unit: str) -> str:
        price = prices.get(unit)
        if price is None:
            return ""
        said = [words("why.loses", loss=_number(price.loss))]
        if price.loss_fewer is not None:
            said.append(words("why.fewer", loss=_number(price.loss_fewer)))
        if price.loss_more is not None:
            said.append(words("why.more", loss=_number(price.loss_more)))
        text = ", ".join(said)
        if price.next_price is None or cheap is None or dear is None:
            return text
        here, low, high = map(_number, (price.next_price, cheap.next_price, dear.next_price))
        return f"{text} · {words('why.here', price=here, cheap=low, dear=high)}"

    return told


def why_button(session: Session, words: Words) -> None:
    """The reasons behind the rates on screen: a table and a sentence, once the losses are predicted; else how to."""
    network, plan = session.network, session.state.plan
    if why_unmeasured(network) is not None:
        return
    prices = tuple(prices_of(session, plan).values())
    if not prices:
        predict = callback(partial(_predict, title=words("why.predicting")))
        st.button(words("why.ask"), key="why", on_click=predict, disabled=_is_coming(session), help=words("why.help"))
        return
    with st.popover(words("why.title"), key="why_open", width="content"):
        st.markdown(reason(prices, words))
        table = _table(prices, words)
        small = dict.fromkeys(table.columns[1:], st.column_config.TextColumn(width=96))
        height = min(420, 38 + 35 * len(prices))
        st.dataframe(table, hide_index=True, key="prices", height=height, column_config=small)
        st.caption(words("why.legend"))


def reason(prices: tuple[Price, ...], words: Words) -> str:
    """In a sentence, where a million MACs more cost least and most."""
    cheap, dear = bargain(prices), dearest(prices)
    if cheap is None or dear is None:
        return words("why.nothing_left")
    said = words(
        "why.reason", cheap=plain(cheap.unit), cheap_price=_number(cheap.next_price), dear=plain(dear.unit),
        dear_price=_number(dear.next_price),
    )  # fmt: skip
    swap = _exchange(prices)
    return f"{said} {words('why.swap', give=plain(swap[0]), take=plain(swap[1])) if swap else words('why.done')}"


def _exchange(prices: tuple[Price, ...]) -> tuple[str, str] | None:
    """The unit where the last saving cost most and that where the next costs least, where an exchange would pay."""
    able = [price for price in prices if price.last_price is not None]
    last, cheap = max(able, key=lambda price: price.last_price or 0.0, default=None), bargain(prices)
    if last is None or cheap is None or last.unit == cheap.unit:
        return None
    return (last.unit, cheap.unit) if (last.last_price or 0.0) > (cheap.next_price or 0.0) else None


def _is_coming(session: Session) -> bool:
    job = session.jobs.get(LOSSES, _key(session))
    return job is not None and not job.done


def _key(session: Session) -> Hashable:
    return (LOSSES, *network_key(session.network), replace(session.state.plan, rates={}).key)


def _predict(session: Session, title: str) -> None:
    network, plan = session.network, session.state.plan
    session.jobs.start(LOSSES, partial(losses_work, network, plan), key=_key(session), title=title)


def _table(prices: tuple[Price, ...], words: Words) -> pd.DataFrame:
    columns = {
        "pruned": [f"{price.pruned}/{price.size}" for price in prices],
        "loss": [_number(price.loss) for price in prices],
        "fewer": [_number(price.loss_fewer) for price in prices],
        "more": [_number(price.loss_more) for price in prices],
        "last": [_number(price.last_price) for price in prices],
        "next": [_number(price.next_price) for price in prices],
    }
    named = {words(f"why.column_{name}"): values for name, values in columns.items()}
    return pd.DataFrame({words("sheet.unit"): [price.unit for price in prices], **named})


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}" if value < 100 else f"{value:.0f}"
