"""What the tests of the lesson's steps share besides fixtures: names of networks, made-up timings, a table's column."""

from fpgm_core.lesson import words_of
from fpgm_core.timing import Zeros

TRAINED, UNTRAINED = ("resnet20", "mobilenetv2_cifar"), "shufflenet_v2_x0_5"
ZEROS = Zeros(8, 3, "cpu", 2, 10.0, 9.0, 6.5, 0.4)
EN = words_of("en")


def column(picture, title):
    return list(picture.table[title])
