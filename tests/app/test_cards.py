"""The cards of the bar: top-5 in its place, how long a measurement takes where that is long."""

from dataclasses import replace

import pytest

from fpgm_core import Measurement
from pages.ui.components.cards import accuracy_card, top5_card
from pages.ui.session.language import words_of

RUNNING = Measurement(
    state="measuring", num_correct=30, num_dense_correct=40, num_both_correct=28, num_images=50, num_total=5000,
    device="cpu", precision="float32", seconds=1.0, batch=10, num_correct_top5=45, num_dense_correct_top5=48,
)  # fmt: skip
EXACT = replace(RUNNING, state="exact")


@pytest.mark.parametrize(("left", "told"), [(None, ""), (2.0, ""), (42.0, ", about 42 s left"), (600.0, "10 min left")])
def test_what_takes_long_says_how_long(left, told):
    words = words_of("en")
    for measurement, state in ((RUNNING, "measuring, 50 of 5,000"), (None, "measuring")):
        card = accuracy_card(measurement, words=words, seconds_left=left)
        assert state in card
        assert told in card
        assert ("left" in card) == bool(told)
    assert "left" not in accuracy_card(EXACT, words=words)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_top5_has_its_interval_and_the_dense_networks_beside_it(language):
    words = words_of(language)
    card = top5_card(EXACT, words)
    assert "90.00%" in card
    assert words("live.dense", accuracy=0.96) in card
    assert f"[{EXACT.top5.low:.1%}, {EXACT.top5.high:.1%}]" in card
    assert "…" in top5_card(None, words)
    assert "…" in top5_card(replace(EXACT, num_correct_top5=None, num_dense_correct_top5=None), words)
