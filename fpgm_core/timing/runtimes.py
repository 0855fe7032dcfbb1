"""What runs networks, a frozen record each: PyTorch, ONNX Runtime, OpenVINO, TensorRT; and where it runs them."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn

from fpgm_core.errors import FpgmError
from fpgm_core.runtime.device import choose_device, to_device
from fpgm_core.runtime.extras import require
from fpgm_core.runtime.registry import Registry
from fpgm_core.timing.engine import held
from fpgm_core.timing.onnx_form import as_onnx
from fpgm_core.timing.turns import Pass, processor

_TENSORRT = "TensorrtExecutionProvider"


@dataclass(frozen=True, eq=False)
class Form:
    """One form of a network as runtimes take it: a module, in eval mode, and how it is made ONNX.

    `module` is None for what exists as ONNX alone, eight-bit networks say.
    """

    module: nn.Module | None
    make_onnx: Callable[[], bytes]

    @classmethod
    def of(cls, module: nn.Module, input_shape: tuple[int, ...]) -> Form:
        """The form of a module that reads images of a shape (C, H, W)."""
        return cls(module, lambda: as_onnx(module, input_shape))

    @classmethod
    def of_onnx(cls, content: bytes) -> Form:
        """The form of an ONNX file."""
        return cls(None, lambda: content)

    def placed(self, device: torch.device) -> nn.Module:
        """The module on a device, in channels_last: itself on the CPU, elsewhere a copy.

        Raises FpgmError for a form without a module.
        """
        if self.module is None:
            raise FpgmError("PyTorch does not read this form, which is ONNX; choose another runtime")
        return to_device(self.module if device.type == "cpu" else copy.deepcopy(self.module), device)

    @cached_property
    def onnx(self) -> bytes:
        """The network as ONNX, made once."""
        return self.make_onnx()


@dataclass(frozen=True)
class Target:
    """Where networks are timed: by which runtime, on which device, with how many threads, how many images at once.

    `threads` of a CPU; torch's own number where None is given. Raises FpgmError for a runtime that is unknown, no
    images, no threads, and a device other than the CPU where the runtime chooses its own.
    """

    runtime: str = "pytorch"
    batch: int = 1
    threads: int | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        runtime = RUNTIMES.find(self.runtime)
        threads = torch.get_num_threads() if self.threads is None else self.threads
        if self.batch < 1 or threads < 1:
            raise FpgmError(f"cannot time {self.batch} images on {threads} threads; give at least 1 of each")
        object.__setattr__(self, "threads", threads)
        device = choose_device(self.device).type if runtime.any_device else "cpu"
        if not runtime.any_device and self.device not in ("auto", "cpu"):
            raise FpgmError(f"{runtime.title} is not timed on {self.device}; leave the device out, or choose pytorch")
        object.__setattr__(self, "device", device)

    @property
    def record(self) -> Runtime:
        """The runtime's record."""
        return RUNTIMES[self.runtime]

    @property
    def own_thread(self) -> bool:
        """Whether a pass runs in the calling thread alone."""
        return self.threads == 1 and self.device == "cpu" and not self.record.on_gpu

    @property
    def identity(self) -> dict[str, Any]:
        """All that a time depends on beside the network, as plain values."""
        where = torch.cuda.get_device_name() if self.device == "cuda" or self.record.on_gpu else processor()
        return {
            "runtime": self.runtime, "version": self.record.version(), "processor": where, "device": self.device,
            "threads": self.threads, "batch": self.batch,
        }  # fmt: skip

    def load(self, form: Form, images: Tensor) -> Pass:
        """A pass of a form over `images` (batch, C, H, W). Raises FpgmError where the runtime is not available."""
        reason = self.record.lacks()
        if reason:
            raise FpgmError(f"{self.record.title} is not available here: {reason}")
        assert self.threads is not None
        with held(self.threads):
            return self.record.load(form, images, self)


@dataclass(frozen=True)
class Runtime:
    """A program that runs networks.

    `lacks` says why it is not available here, "" where it is; `version` what it is. `load` makes a pass of a form over
    images, ready to run, on a target's threads. `any_device` runs on the target's device, `on_gpu` on a GPU that
    it finds itself. `reads_onnx` says that it takes networks as ONNX.
    """

    name: str
    title: str
    lacks: Callable[[], str]
    version: Callable[[], str]
    load: Callable[[Form, Tensor, Target], Pass] = field(repr=False)
    any_device: bool = False
    on_gpu: bool = False
    reads_onnx: bool = True


def available_runtimes() -> tuple[str, ...]:
    """The names of the runtimes that can be used here."""
    return tuple(name for name, record in RUNTIMES.items() if not record.lacks())


def images_for(input_shape: Sequence[int], batch: int) -> Tensor:
    """Random images (batch, C, H, W), the same every time."""
    return torch.randn(batch, *input_shape, generator=torch.Generator().manual_seed(0))


def _lacks(package: str, extra: str) -> Callable[[], str]:
    def reason() -> str:
        there = importlib.util.find_spec(package) is not None
        return "" if there else f"{package} is not installed; pip install 'fpgm-explorer[{extra}]'"

    return reason


def _version_of(package: str) -> Callable[[], str]:
    return lambda: str(importlib.import_module(package).__version__)


def _load_pytorch(form: Form, images: Tensor, target: Target) -> Pass:
    place = choose_device(target.device)
    module = form.placed(place)
    placed = images.to(place).to(memory_format=torch.channels_last) if images.ndim == 4 else images.to(place)

    def once() -> None:
        with torch.inference_mode():
            module(placed)
        wait_for(place)

    return once


def wait_for(device: torch.device) -> None:
    """Wait until a device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def onnx_session(content: bytes, threads: int, *, provider: str = "CPUExecutionProvider", profile: str = "") -> Any:
    """An ONNX Runtime session with so many threads; `profile`, where given, begins the names of its profile's files."""
    onnxruntime = require("onnxruntime", extra="export")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors alone
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    session = onnxruntime.InferenceSession(content, options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise FpgmError(f"ONNX Runtime could not set {provider} up; see its own messages")
    return session


def _onnx_load(provider: str) -> Callable[[Form, Tensor, Target], Pass]:
    def load(form: Form, images: Tensor, target: Target) -> Pass:
        assert target.threads is not None
        session = onnx_session(form.onnx, target.threads, provider=provider)
        fed = {session.get_inputs()[0].name: images.contiguous().numpy()}
        return lambda: session.run(None, fed)

    return load


def _lacks_tensorrt() -> str:
    if not torch.cuda.is_available():
        return "there is no NVIDIA GPU"
    if importlib.util.find_spec("onnxruntime") is None:
        return "onnxruntime is not installed; pip install onnxruntime-gpu tensorrt"
    there = _TENSORRT in importlib.import_module("onnxruntime").get_available_providers()
    return "" if there else "this onnxruntime was built without it; pip install onnxruntime-gpu tensorrt"


def _load_openvino(form: Form, images: Tensor, target: Target) -> Pass:
    openvino = importlib.import_module("openvino")
    core = _openvino_core()
    model = core.read_model(form.onnx)
    model.reshape(list(images.shape))
    exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": target.threads, "NUM_STREAMS": 1}
    request = core.compile_model(model, "CPU", exact).create_infer_request()
    held = images.contiguous().numpy()
    request.set_input_tensor(openvino.Tensor(held))

    def once() -> None:
        request.infer()

    return once


@cache
def _openvino_core() -> Any:
    return importlib.import_module("openvino").Core()


RUNTIMES = Registry[Runtime](
    "runtime",
    (
        Runtime(
            "pytorch",
            "PyTorch, eager",
            lambda: "",
            lambda: str(torch.__version__),
            _load_pytorch,
            any_device=True,
            reads_onnx=False,
        ),
        Runtime(
            "onnxruntime",
            "ONNX Runtime",
            _lacks("onnxruntime", "export"),
            _version_of("onnxruntime"),
            _onnx_load("CPUExecutionProvider"),
        ),
        Runtime("openvino", "OpenVINO", _lacks("openvino", "openvino"), _version_of("openvino"), _load_openvino),
        Runtime(
            "tensorrt",
            "TensorRT, by ONNX Runtime",
            _lacks_tensorrt,
            _version_of("onnxruntime"),
            _onnx_load(_TENSORRT),
            on_gpu=True,
        ),
    ),
)
