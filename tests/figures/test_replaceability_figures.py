"""The picture of the answers, on its data: a panel a question, filled where something is proved."""

from dataclasses import replace

import numpy as np

from fpgm_core.evaluation import QUESTIONS, Finding, Interval, Replaceability
from fpgm_core.figures import agreement_figure

ABOVE, AROUND = Interval(0.5, 0.2, 0.7), Interval(0.2, -0.1, 0.5)


def layer(name, **widened):
    """A layer whose questions are all undecided but for `widened`; None where there are too few filters."""
    answers = {key: Finding(QUESTIONS[key], AROUND, AROUND) for key in QUESTIONS}
    for key, interval in widened.items():
        answers[key] = replace(answers[key], interval=interval, widened=interval)
    by_norm = {key: answers[key] for key in ("cheap", "replaceable")}
    return Replaceability(name, *np.ones((4, 8)), by_distance=answers, by_norm=by_norm)


def test_a_panel_a_question_with_the_norm_where_it_is_asked():
    figure = agreement_figure([layer("a", cheap=ABOVE), layer("b", replaceable=None)], "b")
    panels = {(trace.name, trace.xaxis): trace for trace in figure.data}
    assert [len(panels["g", axis].x) for axis in ("x", "x2", "x3")] == [2, 1, 2], "b has too few filters for one"
    assert [len(panels["L2 norm", axis].x) for axis in ("x", "x2", "x3")] == [2, 1, 0]
    assert list(panels["g", "x"].marker.symbol) == ["circle", "circle-open"]
    assert list(panels["g", "x"].customdata) == [0, 1]
    assert sum(bool(trace.showlegend) for trace in figure.data) == 2
    titles = [figure.layout[axis].title.text for axis in ("xaxis", "xaxis2", "xaxis3")]
    assert ["> 0" in title for title in titles] == [True, False, True], "the premise wants the second below 0"
    (band,) = figure.layout.shapes
    assert (band.y0, band.y1) == (0.5, 1.5)
