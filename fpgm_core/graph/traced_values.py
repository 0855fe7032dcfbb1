"""What stands for tensors and numbers while a forward is traced: it may be asked for what shapes decide."""

from __future__ import annotations

import contextlib
import dis
import operator
import sys
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

import numpy as np
import torch.fx
from torch import nn

# What a tensor of the network tells, or is once and for all, as its only number is.
_TOLD = (
    "dtype", "shape", "ndim", "size", "dim", "numel", "nelement", "requires_grad", "is_cuda", "type", "layout",
    "is_floating_point", "is_contiguous", "stride", "element_size", "itemsize", "is_sparse", "is_quantized",
    "item", "tolist",
)  # fmt: skip


class DataDependent(Exception):
    """A forward asks for a value that only data, or the number of images, can tell."""


class TracedValue(torch.fx.Proxy):
    """A traced value whose size, truth and length can be asked for, where shapes alone decide them."""

    def __getattr__(self, name: str) -> Any:
        tracer, node = self.__dict__.get("tracer"), self.__dict__.get("node")
        if node is None or tracer is None:
            return TracedAttribute(self, name)
        if node.op == "get_attr" and name in _TOLD:
            return getattr(tracer.tensor(str(node.target)), name)
        if node.op == "get_attr" and name == "data":
            return self
        if node.op == "get_attr" and name == "device":
            return getattr(tracer.image, name)
        if name in ("item", "tolist", "numpy"):
            raise DataDependent(f"the forward depends on the data of a tensor: it calls {name}()")
        if name.startswith("__array") or (name in ("prod", "sum", "max", "min") and tracer.is_size(node)):
            raise AttributeError(name)  # as numpy asks, of a size say
        return TracedAttribute(self, name)

    def __array__(self, *options: Any, **more: Any) -> np.ndarray:
        return np.asarray(_tracer(self).number(self.node), *options)

    def __bool__(self) -> bool:
        try:
            return bool(_tracer(self).number(self.node))
        except DataDependent:
            asserted = _asserted(sys._getframe(1))
            if asserted is None:
                raise
            _tracer(self).assume(self.node)
            return asserted

    def __len__(self) -> int:
        return len(_tracer(self).number(self.node, len))

    def __int__(self) -> int:
        return int(_tracer(self).number(self.node))

    __index__ = __int__

    def __float__(self) -> float:
        return float(_tracer(self).number(self.node))

    def __contains__(self, item: Any) -> bool:
        return item in _tracer(self).number(self.node, lambda value: item in value)


class TracedAttribute(torch.fx.proxy.Attribute, TracedValue):
    """An attribute of a traced value: a node once it is used."""


def _length(of: Any) -> Any:
    """len(of): where that is the number of images, what stands for it."""
    return _tracer(of).length(of) if isinstance(of, TracedValue) else len(of)


@contextlib.contextmanager
def lengths_of_images(module: nn.Module) -> Iterator[None]:
    """Have `len` in the files that a module's forwards are written in tell a number of images: Python's own cannot."""
    homes: dict[int, dict[str, Any]] = {}
    for part in module.modules():
        written = [*vars(part).values(), *(value for kind in type(part).__mro__ for value in vars(kind).values())]
        for function in written:
            home = getattr(function, "__globals__", None)
            if home is not None and not str(home.get("__name__")).startswith("torch.") and "len" not in home:
                homes[id(home)] = home
    for home in homes.values():
        home["len"] = _length
    try:
        yield
    finally:
        for home in homes.values():
            del home["len"]


def _asserted(frame: FrameType) -> bool | None:
    """What a truth that is asked for right now must be, where the other answer leads straight to an exception."""
    steps = list(dis.get_instructions(frame.f_code))
    at = {step.offset: place for place, step in enumerate(steps)}
    place = at.get(frame.f_lasti)
    if place is not None and steps[place].opname == "TO_BOOL":  # of Python 3.13
        place += 1
    if place is None or not steps[place].opname.startswith("POP_JUMP"):
        return None
    jumps_on = steps[place].opname.endswith("TRUE")
    for following, holds in ((place + 1, jumps_on), (at[steps[place].argval], not jumps_on)):
        if _raises(steps[following:]):
            return holds
    return None


def _raises(steps: Iterable[dis.Instruction]) -> bool:
    """Whether code comes to an exception before anything is decided or answered."""
    for step in steps:
        if step.opname == "RAISE_VARARGS":
            return True
        if step.opname.startswith("RETURN") or step.opcode in (*dis.hasjrel, *dis.hasjabs):
            return False
    return False


def _tracer(proxy: torch.fx.Proxy) -> Any:
    """The tracer that knows what a value is on no data."""
    return proxy.tracer


def _in_place(name: str) -> Any:
    function = getattr(operator, name)

    def method(self: torch.fx.Proxy, other: Any) -> torch.fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return method


for _name in ("iadd", "isub", "imul", "itruediv"):  # torch.fx would take them for the forms that make a new tensor
    setattr(TracedValue, f"__{_name}__", _in_place(_name))
