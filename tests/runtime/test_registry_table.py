"""One table for all that can be registered: the library's own stay, what is added is replaced and taken out."""

from dataclasses import dataclass

import pytest

from fpgm_core import FpgmError
from fpgm_core.runtime.registry import Registry


@dataclass(frozen=True)
class Fruit:
    name: str
    weight: int = 0


@pytest.fixture
def fruits():
    return Registry[Fruit]("fruit", (Fruit("pear"), Fruit("apple")))


def test_the_own_come_first_and_what_is_added_last(fruits):
    added = fruits.add(Fruit("fig"))
    assert list(fruits) == ["pear", "apple", "fig"]
    assert (len(fruits), fruits["fig"], fruits.find("fig")) == (3, added, added)


def test_what_was_added_is_replaced_and_taken_out(fruits):
    fruits.add(Fruit("fig"))
    assert fruits.add(Fruit("fig", 5)).weight == fruits["fig"].weight == 5
    fruits.remove("fig")
    assert list(fruits) == ["pear", "apple"]
    with pytest.raises(FpgmError, match="no fruit 'fig' was registered"):
        fruits.remove("fig")


def test_the_librarys_own_stay(fruits):
    with pytest.raises(FpgmError, match="the fruit 'pear' is the library's own; choose another name"):
        fruits.add(Fruit("pear", 3))
    with pytest.raises(FpgmError, match="no fruit 'pear' was registered"):
        fruits.remove("pear")
    assert fruits["pear"] == Fruit("pear")


def test_an_unknown_name_is_refused_with_the_names(fruits):
    with pytest.raises(FpgmError, match="unknown fruit 'plum'; choose one of pear, apple"):
        fruits.find("plum")
    with pytest.raises(TypeError):
        fruits["plum"] = Fruit("plum")  # only by `add`
