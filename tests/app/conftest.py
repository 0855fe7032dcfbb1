"""What the page tests share: no session finds what another's recovery made; what fails is told whole."""

import pytest
import streamlit

from pages.ui.session.recovered import recovered_networks, trained_networks


@pytest.fixture(autouse=True)
def nothing_recovered():
    recovered_networks().clear()
    trained_networks().clear()


@pytest.fixture(autouse=True)
def failures_in_full():
    streamlit.set_option("client.showErrorDetails", "full")  # visitors see none of it
    yield
    streamlit.set_option("client.showErrorDetails", "none")
