"""The view state that tests of the pages begin from, whatever the app itself opens on."""

from fpgm_core import Network
from pages.ui.session.view_state import ViewState, encode


def resnet20_view() -> ViewState:
    """ResNet-20, every layer by itself at 40%, on a layer of its last stage."""
    return ViewState(Network.load("resnet20").plan(0.4), "layer3.0.conv1")


def resnet20_query() -> str:
    """The link's query that opens it."""
    return f"s={encode(resnet20_view())}"
