"""What a program asks of the C library's heap."""

import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from fpgm_core.runtime import memory as heap

_FAULTS = """
import resource, torch
from fpgm_core.runtime.memory import keep_freed_memory
assert keep_freed_memory()
def batches():
    for _ in range(10):
        [torch.ones(6_000_000) for _ in range(3)]
batches()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
batches()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc's heap")
def test_freed_memory_is_used_again_without_asking_the_kernel():
    # Left alone, glibc mostly, not always, gives these blocks back: about 117,000 faults.
    run = subprocess.run([sys.executable, "-c", _FAULTS], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 1000


@pytest.mark.parametrize("library", [SimpleNamespace(), SimpleNamespace(mallopt=lambda setting, value: 0)])
def test_another_c_library_is_left_as_it_is(library, monkeypatch):
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda name: library)
    assert not heap.keep_freed_memory()
    assert not heap.return_freed_memory()


_RESIDENT = """
import torch
from fpgm_core.runtime.memory import keep_freed_memory, return_freed_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
keep_freed_memory()
last = torch.ones(1000)
blocks = [torch.ones(4_000_000) for _ in range(20)]
last = torch.ones(1000)  # above them in the heap, which therefore cannot shrink by itself
del blocks
before = resident()
assert return_freed_memory()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc's heap")
def test_at_rest_freed_memory_goes_back_to_the_system():
    run = subprocess.run([sys.executable, "-c", _RESIDENT], capture_output=True, text=True, check=True)
    assert int(run.stdout) > 200 << 20
