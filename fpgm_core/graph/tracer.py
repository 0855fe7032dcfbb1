"""Tracing a forward as people write them: shapes may be compared, counted and looped over; modules taken whole."""

from __future__ import annotations

import inspect
import operator
import re
import time
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.fx
from torch import nn
from torch.fx.node import map_arg
from torch.overrides import TorchFunctionMode

from fpgm_core.graph.operations import plain_norm
from fpgm_core.graph.operations.base import known_class
from fpgm_core.graph.overlay import overlay
from fpgm_core.graph.plain_layers import forget
from fpgm_core.graph.traced_values import DataDependent, TracedValue, lengths_of_images
from fpgm_core.runtime.limits import time_limit

_BATCHES = (2, 3)  # what depends on how many images there are differs between them
TRACE_SECONDS = 120.0
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu)(:\d+)?")
_OWN = (str(Path(__file__).parent), str(Path(torch.__file__).parent))
_DROPS = re.compile(r"(feature_)?(alpha_)?dropout([123]d)?_?|rrelu_?")  # what is random where it is told to train
_TRAINS = ("training", "train")
_DRAWS = re.compile(
    r"(rand|randn|randint|normal|bernoulli|poisson)(_like)?_?|randperm|multinomial|(uniform|random|exponential)_"
)


class TooLong(DataDependent):
    """A forward that does not come to an end."""

    def __init__(self) -> None:
        super().__init__("tracing takes too long: does a loop wait for a value?")


class _Watch(TorchFunctionMode):
    """Tells a tracer what a forward calls by itself, of no image: such results are constants of the trace."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self._tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        traced = any(isinstance(one, torch.fx.Proxy) for one in args)
        if not traced and _DRAWS.fullmatch(str(getattr(func, "__name__", ""))):
            self._tracer.drew(func.__name__, "once, here")
        return func(*args, **(kwargs or {}))


class Tracer(torch.fx.Tracer):
    """torch.fx's tracer with four differences.

    Modules that removal follows are taken whole, subclasses that change nothing too. Numbers that follow from shapes
    may decide what is done: they are found by running the graph so far, on no data, for two numbers of images; what an
    assertion asks of data holds. It ends, with DataDependent, what takes longer than `seconds`. And what a network in
    eval mode does not do, or not in float32, is left out: `settled` says what, a sentence each. `told` is called with
    the number of operations so far.
    """

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        leaves: Collection[str] = (),
        seconds: float = TRACE_SECONDS,
        told: Callable[[int], object] = lambda count: None,
    ) -> None:
        # By default torch.fx changes the module math for the whole process while it traces; numba, compiling UMAP in
        # another thread, then keeps what it found there, and UMAP fails for good. Numbers here go through math as such.
        super().__init__(autowrap_modules=())  # type: ignore[arg-type]  # torch declares one module
        self._leaves, self._told, self._count = leaves, told, 0
        self.image: torch.fx.Proxy | None = None
        self._input_shape = input_shape
        self._until = time.monotonic() + seconds
        self._values: dict[tuple[torch.fx.Node, int], Any] = {}
        self._plain = nn.Module.__call__, nn.Module.__getattr__
        self._copies: dict[str, nn.Module] = {}
        self._autocasts = _autocasts()
        self.settled: dict[str, None] = {}
        self._assumed: list[torch.fx.Node] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module's call is one node."""
        known = known_class(m) is not None or module_qualified_name in self._leaves
        return known or super().is_leaf_module(m, module_qualified_name)

    def create_arg(self, a: Any) -> Any:
        """An argument of a call; a device that is named is wherever the images are, a number of numpy's is a number."""
        if isinstance(a, np.generic):
            a = a.item()
        named = isinstance(a, torch.device) or (isinstance(a, str) and _DEVICE.fullmatch(a))
        return super().create_arg(self.image.device if named and self.image is not None else a)

    def create_node(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> torch.fx.Node:
        """A call; of a conversion to what one of the network's tensors is, or to a device, only the type is said."""
        if kind == "call_method" and target in ("to", "type", "type_as", "cpu", "cuda"):
            target, args, kwargs = self._conversion(target, args, kwargs)
        if target is operator.getitem:
            args = args[0], self._counted_out(args[1])
        args, kwargs = self._settle(kind, target, args, kwargs)
        return super().create_node(kind, target, args, kwargs, *rest, **more)

    def drew(self, name: str, when: str) -> None:
        """Note that a forward draws random numbers."""
        self.settled.setdefault(
            f"its forward draws random numbers in eval mode too, {when}: {name}(){_line_of_forward()}"
        )

    def _settle(self, kind: str, target: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """A call's arguments: dropout drops nothing, whatever it is told; no part runs in half precision."""
        if _autocasts() - self._autocasts:
            self.settled["it runs in float32 throughout, without the autocast that its forward asks for"] = None
        name = str(getattr(target, "__name__", target))
        if kind == "call_module" and self._plain_module(name).training and not self.root.training:
            self.settled[f"{name} is in eval mode here, while the forward puts it into training mode"] = None
        if kind != "call_module" and _DRAWS.fullmatch(name):
            self.drew(name, "anew for every answer")
        if not callable(target) or not _DROPS.fullmatch(name):
            return args, kwargs
        told = _bound(target, args, kwargs)
        trains = next((key for key in _TRAINS if told.get(key) is True), None)
        if trains is None:
            return args, kwargs
        self.settled[
            f"{name}() drops nothing here, while the forward drops at random in eval mode too{_line_of_forward()}; "
            f"write {name}(..., {trains}=self.training)"
        ] = None
        return (args[0],), {**{key: value for key, value in told.items() if key != "input"}, trains: False}

    def _counted_out(self, index: Any) -> Any:
        """An index in which truths that the network holds are the places that they take."""
        if isinstance(index, tuple):
            return tuple(map(self._counted_out, index))
        tensor = self.tensor(str(index.target)) if isinstance(index, torch.fx.Node) and index.op == "get_attr" else None
        truths = tensor is not None and tensor.dtype == torch.bool and tensor.ndim == 1
        return tensor.nonzero().flatten().tolist() if truths and tensor is not None else index

    def _conversion(self, target: str, args: Any, kwargs: Any) -> tuple[str, Any, Any]:
        if target in ("cpu", "cuda"):
            return "to", (args[0], self.create_arg(torch.device("cpu"))), {}
        kind = args[1] if len(args) > 1 else kwargs.get("other", kwargs.get("dtype"))
        if isinstance(kind, torch.fx.Node) and kind.op == "get_attr":
            return "to", (args[0], self.tensor(str(kind.target)).dtype), {}
        if target == "type" and isinstance(kind, str):
            return "to", (args[0], torch.empty(0).type(kind.replace("cuda.", "")).dtype), {}
        return target, args, kwargs

    def proxy(self, node: torch.fx.Node) -> torch.fx.Proxy:
        """What stands for a node's result while the forward runs."""
        if node.op == "placeholder" and self.image is None:
            self.image = TracedValue(node, self)
        if time.monotonic() > self._until:
            raise TooLong
        self._count += 1
        self._told(self._count)
        return TracedValue(node, self)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """A forward is called with images alone; what else it may be given is what it is by default."""
        names = list(inspect.signature(root_fn).parameters)
        image = self.create_proxy("placeholder", names[1] if len(names) > 1 else "images", (), {})
        return root_fn, [self.root, image]

    def is_size(self, node: torch.fx.Node) -> bool:
        """Whether a node is a tensor's shape."""
        return isinstance(self._value(node, _BATCHES[0]), tuple)

    def to_bool(self, obj: torch.fx.Proxy) -> bool:
        """The truth of a number that shapes decide."""
        return bool(self.number(obj.node))

    def iter(self, obj: torch.fx.Proxy) -> Iterator[Any]:
        """The parts of several tensors, or of a size."""
        parts: Any = obj
        return iter([parts[i] for i in range(len(self.number(obj.node, len)))])

    def assume(self, node: torch.fx.Node) -> None:
        """Leave out what an assertion asks of data."""
        self.settled["what its forward asserts of data is taken to hold, and is not checked"] = None
        self._assumed.append(node)

    def trace(self, root: Any, concrete_args: Any = None) -> torch.fx.Graph:
        """The graph of a forward."""
        with _Watch(self):
            graph = super().trace(root, concrete_args)
        for node in self._assumed:
            forget(graph, node)
        return graph

    def length(self, proxy: torch.fx.Proxy) -> Any:
        """How many parts a value has; what stands for their number where that is the images'."""
        try:
            return len(self.number(proxy.node, len))
        except DataDependent:
            return proxy.size(0)

    def number(self, node: torch.fx.Node, of: Any = lambda value: value) -> Any:
        """A node's value where it follows from shapes, whatever the number of images. Raises DataDependent."""
        values = [self._value(node, batch) for batch in _BATCHES]
        if of is not len and any(isinstance(value, torch.Tensor) for value in values):
            raise DataDependent("the forward depends on the data of a tensor")
        if of(values[0]) != of(values[1]):
            raise DataDependent("the forward depends on how many images there are")
        return values[0]

    def _value(self, node: torch.fx.Node, batch: int) -> Any:
        """What a node is for so many images, on the meta device."""
        wanted = [node]
        while wanted:
            last = wanted[-1]
            missing = [n for n in last.all_input_nodes if (n, batch) not in self._values]
            if missing:
                wanted += missing
                continue
            wanted.pop()
            if (last, batch) not in self._values:
                self._values[last, batch] = self._run(last, batch)
        return self._values[node, batch]

    def _run(self, node: torch.fx.Node, batch: int) -> Any:
        args: Any = map_arg(node.args, lambda n: self._values[n, batch])
        kwargs: Any = map_arg(node.kwargs, lambda n: self._values[n, batch])
        if node.op == "placeholder":
            return torch.zeros(batch, *self._input_shape, device="meta")
        if node.op == "get_attr":
            return self.tensor(str(node.target)).to("meta")
        patched = nn.Module.__call__, nn.Module.__getattr__
        nn.Module.__call__, nn.Module.__getattr__ = self._plain  # type: ignore[method-assign]
        try:
            with torch.no_grad(), torch.device("meta"):  # for tensors that the forward makes of nothing
                if node.op == "call_module":
                    return self._copy(str(node.target))(*args, **kwargs)
                if node.op == "call_method":
                    return getattr(args[0], str(node.target))(*args[1:], **kwargs)
                return node.target(*args, **kwargs)  # type: ignore[operator]
        finally:
            nn.Module.__call__, nn.Module.__getattr__ = patched  # type: ignore[method-assign]

    def tensor(self, name: str) -> torch.Tensor:
        """A tensor of the network, by name, as it is."""
        found: torch.Tensor = self._part(name)
        return found

    def _plain_module(self, name: str) -> nn.Module:
        found: nn.Module = self._part(name)
        return found

    def _part(self, name: str) -> Any:
        """A part of the network by its dotted name, as it is."""
        patched = nn.Module.__getattr__
        nn.Module.__getattr__ = self._plain[1]  # type: ignore[method-assign]
        try:
            return operator.attrgetter(name)(self.root)
        finally:
            nn.Module.__getattr__ = patched  # type: ignore[method-assign]

    def _copy(self, name: str) -> nn.Module:
        if name not in self._copies:
            self._copies[name] = overlay(self.root.get_submodule(name), {}).to("meta")
        return self._copies[name]


def trace(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    *,
    seconds: float = TRACE_SECONDS,
    told: Callable[[int], object] = lambda count: None,
) -> torch.fx.GraphModule:
    """The graph of a forward; raises whatever the forward raises on values that are not there, and TooLong."""
    found = ((name, plain_norm(part)) for name, part in module.named_modules())
    norms = {name: plain for name, plain in found if plain is not None}
    tracer = Tracer(input_shape, norms, seconds, told)
    with time_limit(seconds, TooLong), lengths_of_images(module):
        graph = tracer.trace(module)
    traced = torch.fx.GraphModule(tracer.root, graph, type(module).__name__)
    traced.meta["settled"] = tuple(tracer.settled)
    if not module.training:
        traced.eval()
    for name in {str(node.target) for node in graph.nodes if node.op == "call_module"} & set(norms):
        traced.set_submodule(name, norms[name])  # its containers are the traced module's own
    return traced


def where(error: BaseException) -> str:
    """The line of the user's own code that an error came from: file, number and text; "" where there is none."""
    return _last_line(traceback.extract_tb(error.__traceback__))


def _autocasts() -> set[str]:
    """The devices on which operations run in half precision right now."""
    return {device for device in ("cpu", "cuda") if torch.is_autocast_enabled(device)}


def _line_of_forward() -> str:
    """The line of the user's own code that is being traced; "" for code that was made, not written."""
    frames = traceback.extract_stack()
    begin = max((at for at, one in enumerate(frames) if (one.filename, one.name) == (__file__, "trace")), default=-1)
    return _last_line(frames[begin + 1 :])


def _last_line(frames: Sequence[traceback.FrameSummary]) -> str:
    own = [frame for frame in frames if not frame.filename.startswith((*_OWN, "<"))]
    return f" at {Path(own[-1].filename).name}, line {own[-1].lineno}: {own[-1].line}" if own else ""


def _bound(function: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    """A call's arguments by name, defaults too; of PyTorch's built-in dropouts, which tell no signature, (p, train)."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return {**dict(zip(("input", "p", "train"), args, strict=False)), **kwargs}
    bound.apply_defaults()
    return dict(bound.arguments)
