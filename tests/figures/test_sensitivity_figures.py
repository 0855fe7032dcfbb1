"""The sweep's pictures, on their data."""

import numpy as np
import pytest

from fpgm_core.evaluation import Point, Sweep
from fpgm_core.figures import sensitivity_curves, sweep_figure

RATES = (0.1, 0.5, 0.9)


def point(unit, rate, macs, correct, both):
    """A point of 1,000 images, 900 of which the dense network gets right."""
    return Point(unit, rate, macs, num_correct=correct, num_dense_correct=900, num_both_correct=both, num_images=1000)


SWEEP = Sweep(
    (
        point("one", 0.1, 90, correct=900, both=895),  # 5 better, 5 worse
        point("one", 0.5, 50, correct=860, both=855),
        point("two", 0.1, 95, correct=980, both=890),  # 90 better, 10 worse
    ),
    9,
)


def test_every_cell_is_a_measured_point_and_what_is_not_measured_is_left_out():
    colours, cells, bars = sweep_figure(
        SWEEP, ["one", "two", "three"], rates=RATES, plan={"one": 0.35, "two": 0.95}, chosen="two"
    ).data
    expected = np.sqrt([[0, 4, np.nan], [0, np.nan, np.nan], [np.nan] * 3])
    assert np.allclose(colours.z, expected, equal_nan=True)
    assert colours.text.tolist() == [["(+0.0)", "−4.0", ""], ["+8.0", "", ""], ["", "", ""]]
    assert list(map(tuple, cells.customdata)) == [(0, 0.1), (0, 0.5), (1, 0.1)]
    assert cells.text[1].startswith("one at 50%: −4.00 [−5.")
    assert list(bars.x) == [35]  # 95% lies beyond the swept rates


def test_an_empty_sweep_is_an_empty_map():
    colours, cells, bars = sweep_figure(Sweep((), 3), ["one"], rates=RATES, plan={}).data
    assert np.isnan(colours.z).all()
    assert len(cells.x) == len(bars.x) == 0


@pytest.mark.parametrize(("by_macs", "x"), [(False, [0, 10, 50]), (True, [0, 10, 50])])
def test_curves_start_at_the_dense_network_and_the_chosen_one_has_intervals(by_macs, x):
    quiet, chosen = sensitivity_curves(SWEEP, "one", dense_macs=100, by_macs=by_macs).data
    assert (list(quiet.y), quiet.error_y.array) == ([0, pytest.approx(8)], None)
    assert list(chosen.x) == pytest.approx(x)
    assert list(chosen.y) == pytest.approx([0, 0, -4])
    change = SWEEP.points[1].change
    assert chosen.error_y.array[2] == pytest.approx(100 * (change.high - change.value))
    assert chosen.error_y.arrayminus[2] == pytest.approx(100 * (change.value - change.low))


def test_macs_are_the_networks_share():
    assert list(sensitivity_curves(SWEEP, "two", dense_macs=190, by_macs=True).data[-1].x) == pytest.approx([0, 50])
