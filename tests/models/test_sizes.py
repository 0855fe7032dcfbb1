"""What weights take, told without making them."""

import threading

import pytest
from torch import nn

from fpgm_core import FpgmError
from fpgm_core.models import get_model_info, sizes, weight_bytes


# A network of tensors' own widths, one with a buffer of its own, and one of this project's.
@pytest.mark.parametrize("name", ["regnet_x_400mf", "squeezenet1_1", "resnet20"])
def test_it_is_what_the_network_has(name):
    real = get_model_info(name).build()
    assert weight_bytes(name) == sum(4 * parameter.numel() for parameter in real.parameters())


def test_a_network_of_gigabytes_takes_no_room():
    before = resident()
    assert weight_bytes("vit_h_14") == 632_045_800 * 4
    assert resident() - before < 300 << 20


def resident():
    from fpgm_core.runtime.memory import resident_bytes

    return resident_bytes()


def test_what_others_make_meanwhile_and_afterwards_is_real():
    made = []
    with sizes._without_values():
        here = nn.Linear(3, 4)
        thread = threading.Thread(target=lambda: made.append(nn.Linear(3, 4)))
        thread.start()
        thread.join()
    assert here.weight.is_meta
    assert not made[0].weight.is_meta
    assert not nn.Linear(3, 4).weight.is_meta


def test_an_unknown_network_is_refused():
    with pytest.raises(FpgmError, match="unknown model 'resnet51'; did you mean"):
        weight_bytes("resnet51")
