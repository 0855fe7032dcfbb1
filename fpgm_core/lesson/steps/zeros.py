"""Step 9: what zeros are worth in time, scattered over the weights or taken out as whole filters."""

from __future__ import annotations

from fpgm_core.figures import lesson as figures
from fpgm_core.lesson.content import Picture, StepContext, StepView
from fpgm_core.lesson.controls import NoControls
from fpgm_core.runtime.words import Words
from fpgm_core.timing import Zeros

_FASTER = 0.95  # of the dense network's time: what takes less is faster


def show_zeros(context: StepContext, controls: NoControls) -> StepView:
    """The time of dense, scattered and compact, and which are faster; empty if it was not measured."""
    words, zeros = context.words, context.evidence.zeros
    if zeros is None:
        return StepView()
    bars = {words("figure.dense_time"): zeros.dense_ms}
    if context.revealed:
        bars |= {
            words("figure.scattered_time"): zeros.scattered_ms,
            words("figure.compact_time"): zeros.compact_ms,
        }
    figure = figures.bars_figure(bars, axis=words("figure.milliseconds"), number_format=".2f")
    caption = words("zeros.bars", network=context.network.title, share=zeros.share, batch=zeros.batch,
                    threads=zeros.threads)  # fmt: skip
    return StepView((Picture("zeros", figure, caption),), (_said(zeros, words),), _answer(zeros))


def _answer(zeros: Zeros) -> str:
    """Which take at least 5% less time than the dense network."""
    scattered, compact = (ms < _FASTER * zeros.dense_ms for ms in (zeros.scattered_ms, zeros.compact_ms))
    return "both" if scattered and compact else "scattered" if scattered else "compact" if compact else "neither"


def _said(zeros: Zeros, words: Words) -> str:
    return words(
        "zeros.said",
        scattered=zeros.scattered_ms,
        dense=zeros.dense_ms,
        compact=zeros.compact_ms,
        scattered_ratio=zeros.scattered_ms / zeros.dense_ms,
        compact_ratio=zeros.compact_ms / zeros.dense_ms,
    )
