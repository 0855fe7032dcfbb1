"""Links and plan files made by version 0.1.0 still open, and say what they said."""

import pytest
from driving import opened, session_of

from fpgm_core import Plan, SelectionOptions
from pages.ui.session.view_state import ViewState, decode, encode

LINK = (
    "eNpdkN1ugzAMhd_F16hKUhiUu6nXk3ZfVcgkpo0GSRQC21Tx7jN0_1IUKcfHn49zg9Cjg_oGnY8DpmamOFrPisxg8IZ6qCHS6CgpARl01l0o"
    "hmhd4oJ8kHnZKYNFW2ldCDroSqj8YHItS5RC7g22RV5WOudS17WlakvZ4XoUCslAHW2iuE2EXjWOU7DqQ2JpXHONRAbqPaexb814xUhQi50q"
    "Moh-cqZJHup8YZCfQs_pmGOdoUB8cUi2YaKNpL2b5Vdzj-8U9zux-1YLhvRev5Bp7PYj_y2n8vxj8VP6xTyp87J8QtdF_nZyuKsfiaE8eLb0"
    "ypYnDKwPGMI98_Pxkd_3ZRWHnjZ1oHhhJYMrIc9LcaLlA3yPiZg"
)
PLAN = """{
  "format_version": 1,
  "model": "resnet20",
  "fingerprint": "16147f2da5b8cc50e9c80249d4c17a1013dab5478c4e9cffb72b71fa1fa12a01",
  "criterion": "l2_norm",
  "options": {"seed": 3, "mix_share": 0.25, "round_to": 4},
  "coupling": "independent",
  "rates": {"conv1": 0.25, "layer3.0.conv1": 0.5},
  "locked_in": {"layer3.0.conv1": [7]},
  "locked_out": {"conv1": [2]}
}"""


@pytest.fixture
def state(resnet20):
    """What that version had on screen."""
    plan = Plan(
        "resnet20",
        resnet20.fingerprint,
        criterion="l2_norm",
        coupling="independent",
        options=SelectionOptions(seed=3, round_to=4),
        rates={"conv1": 0.25, "layer3.0.conv1": 0.5},
        locked_in={"layer3.0.conv1": (7,)},
        locked_out={"conv1": (2,)},
    )
    return ViewState(plan, "layer3.0.conv1", chosen=5, view="Map", mapping="PCA", seed=2, method="merged", damage=True)


def test_an_old_link_opens_on_what_it_said(state):
    assert decode(LINK) == state
    app = opened(s=LINK)
    assert session_of(app).state == state
    assert not app.error
    session_of(app).jobs.close()


def test_a_link_made_now_is_the_old_one(state):
    assert encode(state) == LINK


def test_an_old_plan_file_opens(state):
    app = opened()
    app.get("file_uploader")[0].upload("plan.json", PLAN.encode(), "application/json").run()
    assert session_of(app).state.plan == state.plan
    assert not app.error
