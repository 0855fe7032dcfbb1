"""What is broken off leaves nothing behind, in its thread or in the interpreter."""

import subprocess
import sys
import time

import pytest

from fpgm_core.runtime.limits import Breakable, time_limit


class Late(Exception):
    pass


def test_an_error_that_comes_too_late_never_arrives():
    for _ in range(200):
        breakable = Breakable(Late)
        try:
            with breakable.running():
                breakable.break_off()  # raised at the next instruction that looks, or not any more
        except Late:
            pass
        time.sleep(0)
    sum(range(100_000))


@pytest.mark.parametrize("inside", ["while True: pass", "time.sleep(0.2)"])
def test_a_traced_function_runs_after_something_was_broken_off(inside):
    """The interpreter must not look for an error for ever after: before its first instruction a traced function did."""
    code = f"""
import sys, time
from fpgm_core.runtime.limits import time_limit
try:
    with time_limit(0.05, ValueError):
        {inside}
except ValueError:
    pass
def answer():
    return 42
sys.settrace(lambda *told: None)
print(answer())
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert found.stdout == "42\n"


def test_a_swallowed_error_is_not_raised_again():
    swallowed = 0
    with time_limit(0.02, Late):
        try:
            while True:
                pass
        except Late:
            swallowed += 1
    time.sleep(0.05)
    assert swallowed == 1
