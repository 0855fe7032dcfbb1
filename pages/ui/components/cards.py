"""The figures of the top bar as HTML: accuracy, MACs, parameters. Every text is escaped."""

from __future__ import annotations

import html

from fpgm_core import Measurement
from fpgm_core.graph import Cost
from fpgm_core.lesson import Words

_LONG = 5.0  # seconds: how much longer something takes is only told from here on


def card(label: str, value: str, under: str = "", state: str = "", more: str = "") -> str:
    """One figure of the top bar as HTML; every text is escaped, `value` may carry a <small> part after a bar.

    `more` goes on after `under` where there is room.
    """
    main, _, rest = value.partition("|")
    badge = f'<span class="state" title="{html.escape(state)}">{html.escape(state)}</span>' if state else ""
    small = f" <small>{html.escape(rest)}</small>" if rest else ""
    told = f'{html.escape(under)}<span class="more">{html.escape(more)}</span>'
    return (
        f'<div class="card"><div class="label">{html.escape(label)}{badge}</div>'
        f'<div class="value">{html.escape(main)}{small}</div><div class="under">{told}</div></div>'
    )


def millions(count: int) -> str:
    """A count in the unit that reads best: 19.10 M, 4.09 G, 128.8 k."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.2f} {unit}" if size > 1e3 else f"{count / size:.1f} {unit}"
    return str(count)


def macs_card(cost: Cost, dense: Cost, words: Words, speed: str = "") -> str:
    """MACs and what was cut of them; `speed`, where it is known, says how long the network takes."""
    return _cost_card(words("live.macs"), cost.macs, dense.macs, words, speed)


def params_card(cost: Cost, dense: Cost, words: Words) -> str:
    """Parameters and what was cut of them."""
    return _cost_card(words("live.params"), cost.params, dense.params, words)


def _cost_card(label: str, now: int, dense: int, words: Words, under: str = "") -> str:
    counts = words("live.of", now=f"{now:,}", dense=f"{dense:,}")
    return card(label, f"{millions(now)}|−{1 - now / dense:.1%}", under, more=f" · {counts}" if under else counts)


def _points(fraction: float) -> str:
    """A change of accuracy in percentage points, with a real minus sign."""
    return f"{fraction * 100:+.2f}".replace("-", "−")


def accuracy_card(
    measurement: Measurement | None,
    *,
    words: Words,
    refitted: float | None = None,
    seconds_left: float | None = None,
    error: str | None = None,
    moving: bool = False,
    measurable: bool = True,
    rung: str = "",
) -> str:
    """Accuracy with its interval and the paired change, and how far the measurement is.

    `rung` is what was done after pruning. `refitted` is the share of the refit before the first figure that is done,
    None where none is under way. `seconds_left` is told where it is long. `measurable` says whether there is anything
    to measure, and to measure it on.
    """
    label = f"{words('live.accuracy')}, {rung}" if rung else words("live.accuracy")
    if not measurable:
        return card(label, "—", "", words("live.not_measured"))
    if error:
        return card(label, "—", error, words("live.failed"))
    if moving:
        return card(label, "…", words("live.at_rest"), words("live.moving"))
    left = time_left(seconds_left, words) if seconds_left is not None and seconds_left >= _LONG else ""
    if refitted is not None:
        return card(label, "…", words("live.refitting"), words("live.repairing", share=refitted) + left)
    if measurement is None:
        return card(label, "…", words("live.coming"), words("live.measuring") + left)
    return _measured_card(label, measurement, words=words, left=left)


def _measured_card(label: str, measurement: Measurement, *, words: Words, left: str) -> str:
    accuracy, change = measurement.accuracy, measurement.change
    state = words(
        f"live.{'running' if measurement.state == 'measuring' else measurement.state}",
        images=measurement.num_images,
        total=measurement.num_total,
    )
    moved = f"{_points(change.value)} [{_points(change.low)}, {_points(change.high)}]"
    notes = [words("live.change", change=moved)]
    notes += [words("live.short")] * measurement.short_of_memory
    notes += [words("live.lost", lost=device, device=measurement.device) for device in measurement.lost_devices]
    dense = words("live.dense", accuracy=measurement.dense_accuracy.value)
    between, more = f"[{accuracy.low:.1%}, {accuracy.high:.1%}]", "".join(f" · {note}" for note in notes)
    return card(label, f"{accuracy.value:.2%}|{dense}", between, state + left, more)


def top5_card(measurement: Measurement | None, words: Words) -> str:
    """Top-5 accuracy with its interval, and the dense network's; a place for it while there is none."""
    top5, dense = (None, None) if measurement is None else (measurement.top5, measurement.dense_top5)
    if top5 is None or dense is None:
        return card(words("live.top5"), "…")
    between = f"[{top5.low:.1%}, {top5.high:.1%}]"
    return card(words("live.top5"), f"{top5.value:.2%}|{words('live.dense', accuracy=dense.value)}", between)


def beside(*cards: str) -> str:
    """Cards in one place, side by side."""
    return f'<div class="cards">{"".join(cards)}</div>'


def time_left(seconds: float | None, words: Words) -> str:
    """How much longer something takes, to end a sentence with; empty where that is unknown."""
    if seconds is None:
        return ""
    return words("work.minutes", n=seconds / 60) if seconds > 90 else words("work.seconds", n=seconds)
