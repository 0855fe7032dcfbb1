"""A trace changes the module math for the whole process: who must not see that waits for its end."""

import math
import threading

import torch
from torch import nn

from fpgm_core import Network
from fpgm_core.runtime.exclusive import MATH_MODULE

SQRT = math.sqrt


class Slow(nn.Module):
    """A convolution whose forward waits, where somebody has it wait."""

    def __init__(self):
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1)
        self.entered, self.gate = threading.Event(), threading.Event()

    def __deepcopy__(self, memo):
        return self

    def forward(self, x):
        self.entered.set()
        self.gate.wait(30)
        return self.last(torch.relu(self.conv(x)))


def test_math_is_whole_for_whoever_holds_it():
    slow, opened = Slow(), []
    tracing = threading.Thread(target=lambda: opened.append(Network.from_module(slow, input_shape=(3, 8, 8))))
    tracing.start()
    assert slow.entered.wait(30)
    assert not MATH_MODULE.acquire(timeout=0.1), "a trace is under way"
    slow.gate.set()
    tracing.join(60)
    assert opened[0].units("inner")
    assert MATH_MODULE.acquire(timeout=30)
    assert math.sqrt is SQRT
    MATH_MODULE.release()
