"""Which device and precision are chosen, on machines that have them and on those that do not."""

import pytest
import torch

from fpgm_core import FpgmError
from fpgm_core.runtime.device import (
    DEVICES,
    PRECISIONS,
    choose_device,
    choose_precision,
    give_up,
    is_loss,
    lost_devices,
    reset_lost_devices,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def machine(monkeypatch):
    def build(cuda=False, mps=False, bfloat16=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bfloat16)
        for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, probe, lambda: bfloat16, raising=False)

    return build


@pytest.mark.parametrize(
    ("there", "first"),
    [({}, "cpu"), ({"mps": True}, "mps"), ({"cuda": True}, "cuda"), ({"cuda": True, "mps": True}, "cuda")],
)
def test_auto_takes_the_first_that_is_there(machine, there, first):
    machine(**there)
    assert choose_device("auto") == choose_device() == torch.device(first)
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(machine, name):
    machine()
    with pytest.raises(FpgmError, match=f"no {name} device here; choose auto or one of: cpu"):
        choose_device(name)
    machine(**{name: True})
    assert choose_device(name).type == name


@pytest.mark.parametrize("name", ["tpu", "", "CPU", "cuda:0"])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(FpgmError, match=", ".join(DEVICES)):
        choose_device(name)


@pytest.mark.parametrize("place", [CPU, CUDA])
@pytest.mark.parametrize("native", [True, False])
def test_auto_precision_follows_the_hardware(machine, place, native):
    machine(cuda=True, bfloat16=native)
    assert choose_precision("auto", place) == (torch.bfloat16 if native else torch.float32)
    assert choose_precision("float32", place) == torch.float32


def test_bfloat16_where_it_is_asked_for(machine):
    machine(cuda=True, bfloat16=False)
    assert choose_precision("bfloat16", CPU) == torch.bfloat16  # emulated: slow, but what was asked for
    with pytest.raises(FpgmError, match="no bfloat16"):
        choose_precision("bfloat16", CUDA)


def test_auto_is_float32_where_nobody_can_tell(machine):
    machine(mps=True, bfloat16=True)
    assert choose_precision("auto", torch.device("mps")) == torch.float32


@pytest.mark.parametrize("name", ["float16", "", "fp32"])
def test_an_unknown_precision_is_refused(name):
    with pytest.raises(FpgmError, match=", ".join(PRECISIONS)):
        choose_precision(name, CPU)


@pytest.fixture
def nothing_lost():
    reset_lost_devices()
    yield
    reset_lost_devices()


def test_a_device_that_failed_is_used_no_more(machine, nothing_lost):
    machine(cuda=True, mps=True)
    give_up(CUDA)
    give_up(CUDA)
    assert lost_devices() == ("cuda",)
    assert choose_device("auto") == torch.device("mps")
    with pytest.raises(FpgmError, match="the cuda device failed; choose auto or cpu"):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("error", "loss"),
    [
        (RuntimeError("CUDA error: unspecified launch failure"), True),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
        (RuntimeError("shape mismatch"), False),
        (ValueError("CUDA error"), False),
    ],
)
def test_what_says_that_a_device_is_gone(error, loss):
    assert is_loss(error) is loss
