"""What a server's process holds, with loose bounds: networks opened in turn, and nobody there."""

import pytest
from memory import held_after_opening

NAMES, LARGEST = ("resnet50", "vgg16", "densenet121"), "vgg16"


@pytest.mark.thorough
def test_networks_opened_in_turn_leave_no_more_than_the_largest_and_a_server_at_rest_holds_little():
    alone, turns = held_after_opening(LARGEST), held_after_opening(*NAMES)
    assert turns[NAMES[-1]] <= alone[LARGEST] + 300, (alone, turns)
    assert turns["rest"] < 1200, turns
    assert alone["rest"] < 1200, alone
