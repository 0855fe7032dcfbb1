"""What the page tests share: no session finds what another's recovery made."""

import pytest

from pages.ui.session.recovered import recovered_networks, trained_networks


@pytest.fixture(autouse=True)
def nothing_recovered():
    recovered_networks().clear()
    trained_networks().clear()
