"""What a forward does by chance or in half precision is settled where it is opened, and said."""

import warnings

import pytest
import torch
from middles import SHAPE, images
from torch import nn
from torch.nn import functional as F
from toys import Toy, asserted_of_data, close, conv, head

from fpgm_core import COUPLINGS, Network
from fpgm_core.pruning import verify


def opened(forward, **more):
    torch.manual_seed(0)
    module = Toy(forward, a=conv(3, 8), b=conv(8, 8), fc=nn.Linear(8, 5), **more).requires_grad_(False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network = Network.from_module(module, SHAPE)
    return network, [str(one.message) for one in caught if issubclass(one.category, UserWarning)]


def proved(network):
    for coupling in COUPLINGS:
        assert {unit.name for unit in network.units(coupling)} == {"a", "b"}
        proof = verify(network.prune(0.5, coupling=coupling))
        assert proof.holds, proof.problem


def plain(net, x):
    return head(net, net.b(F.relu(net.a(x))))


def dropped(net, x):
    return head(net, F.dropout(net.b(F.relu(net.a(x))), 0.5))


def dropped_by_position(net, x):
    return head(net, torch.dropout(net.b(F.relu(net.a(x))), 0.5, True))


def maps_dropped(net, x):
    return head(net, F.dropout2d(net.b(F.relu(net.a(x))), 0.5, training=True))


@pytest.mark.parametrize(
    ("forward", "call", "flag"),
    [
        (dropped, "dropout", "training"),
        (dropped_by_position, "dropout", "train"),
        (maps_dropped, "dropout2d", "training"),
    ],
)
def test_dropout_that_trains_in_eval_mode_drops_nothing_and_is_named(forward, call, flag):
    network, (said,) = opened(forward)
    assert f"{call}() drops nothing here" in said
    assert f"test_settled.py, line {forward.__code__.co_firstlineno + 1}" in said
    assert f"{flag}=self.training" in said
    wanted = plain(network.module, images())
    for _ in range(2):
        assert close(network.module(images()), wanted, wanted)
    proved(network)


def test_a_program_that_drops_is_settled_too():
    module = Toy(dropped, a=conv(3, 8), b=conv(8, 8), fc=nn.Linear(8, 5)).eval().requires_grad_(False)
    program = torch.export.export(module, (images(),))
    with pytest.warns(UserWarning, match=r"drops at random in eval mode too; write dropout"):
        network = Network.from_module(program)
    assert torch.equal(network.module(images()), network.module(images()))
    proved(network)


def test_dropout_that_sleeps_is_left_alone():
    network, said = opened(lambda net, x: head(net, F.dropout(net.b(F.relu(net.a(x))), 0.5, net.training)))
    assert not said
    proved(network)


def test_a_layer_that_the_forward_puts_into_training_mode_stays_in_eval_mode():
    def forward(net, x):
        net.d.train()
        return head(net, net.d(net.b(F.relu(net.a(x)))))

    network, (said,) = opened(forward, d=nn.Dropout(0.5))
    assert "d is in eval mode here" in said
    wanted = plain(network.module, images())
    assert close(network.module(images()), wanted, wanted)
    proved(network)


def halved(net, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = net.b(F.relu(net.a(x)))
    return head(net, y.float())


def test_half_precision_is_left_to_whoever_runs_it():
    network, (said,) = opened(halved)
    assert "float32 throughout" in said
    assert torch.equal(network.module(images()), plain(network.module, images()))
    proved(network)


def test_what_is_asserted_of_data_holds():
    network, (said,) = opened(asserted_of_data)
    assert "asserts of data" in said
    assert close(network.module(images()), plain(network.module, images()), network.module(images()))
    proved(network)


def noisy(net, x):
    y = F.relu(net.a(x))
    return head(net, net.b(y + 0.1 * torch.randn_like(y)))


def shuffled(net, x):
    return head(net, net.b(F.relu(net.a(x))[:, torch.randperm(8)]))


@pytest.mark.parametrize(("forward", "when"), [(noisy, "anew for every answer"), (shuffled, "once, here")])
def test_random_numbers_are_told_of_and_drawn_alike_in_every_form(forward, when):
    network, (said,) = opened(forward)
    assert when in said
    assert f"test_settled.py, line {forward.__code__.co_firstlineno + 2 - (forward is shuffled)}" in said
    proof = verify(network.prune(0.5, coupling="coupled"))
    assert proof.holds, proof.problem
