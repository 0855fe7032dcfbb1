"""One class per operation: what it does to channels, how it is rebuilt, what it does to memory.

`OPERATIONS` maps what a traced network calls to the one object that knows all of this about it: a function, a module's
class, a method's name, or the dotted name of a function that is not imported here. What is not in it is met honestly:
the filters that reach it cannot be pruned, and say why. `register_op` adds to it.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.fx
from torch import nn
from torch.nn import functional as F

from fpgm_core.errors import FpgmError
from fpgm_core.graph.flow import ALWAYS, Known, Value

if TYPE_CHECKING:
    from fpgm_core.graph.builder import Builder
    from fpgm_core.graph.rebuilder import Rebuilder

Target = type[nn.Module] | Callable[..., Any] | str
Rebuilt = tuple[torch.fx.Node | None, np.ndarray]  # a compact tensor, None where no channel is left; what it holds


class Operation:
    """What is known of one operation; subclasses say what differs from an operation that nobody follows.

    `makes_new_memory`: it reads what it is given and writes into memory of its own. `shares_memory`: its result may be
    its operand's memory. `role` is what it is to whoever fuses operations: "sum", "relu", "relu6", "identity", or "".
    `reads_weights`: it knows that an absent channel of a sigmoid's is not zero. `reads_spread`: it reads channels that
    lie over several dimensions. `reads_unwritten`: it notes something of tensors that no filter writes, as layers and
    norms do. `unites`: it sums streams, whose writers may carry each other's channels as zeros.
    `counted`: its multiply-adds are counted from its shapes; those of others are what PyTorch's counter finds.
    """

    makes_new_memory = False
    shares_memory = False
    role = ""
    reads_weights = False
    reads_spread = False
    reads_unwritten = False
    unites = False
    counted = False

    def propagate(self, walk: Builder, node: torch.fx.Node, inputs: list[Value]) -> Known:
        """What is known of the node's result, where `inputs` are the tensors it reads; None where it is not followed.

        `walk` notes what that means for the filters that write them: `walk.join`, `walk.fix`.
        """
        return None

    def rebuild(self, network: Rebuilder, node: torch.fx.Node, value: Value) -> Rebuilt:
        """The operation on compact tensors, where `value` is what `propagate` said: a node, and the channels it has."""
        return network.copied(node, network.whole), np.arange(value.channels)

    def channel_dim(self, walk: Builder, node: torch.fx.Node, source: torch.fx.Node) -> int | None:
        """Of an operand whose channels lie over several dimensions, the one to be taken for the channels' own.

        The others are then positions. None where it is not followed.
        """
        return None

    def in_place(self, node: torch.fx.Node, module: nn.Module | None = None) -> bool:
        """Whether the operation changes what it is given; `module` is the one it calls, if it calls one."""
        return written(node, module) is not None


OPERATIONS: dict[Target, Operation] = {}
_OPERATOR_FORMS = {
    getattr(operator, f"i{name}")
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "matmul")
}  # fmt: skip  of `y += x`: they write into y


def register_op(target: Target, operation: Operation) -> None:
    """Have removal follow an operation of one's own, in every network traced from now on.

    `target` is what a forward calls: a function, a subclass of nn.Module (which is then not traced into), the name of
    a tensor's method, or the dotted name of a function or a class. It replaces what was registered before.

        class Halve(nn.Module):
            def forward(self, x):
                return x[:, ::2] * 0.5

        class Halving(Operation):
            def propagate(self, walk, node, inputs):
                (value,) = inputs
                walk.join(value.sources, f"its channels are split ({node.name})")
                return Value(value.sources[:, ::2], value.dim, self)

            def rebuild(self, network, node, value):
                source, live = node.all_input_nodes[0], network.live(value)
                taken = network.placed(source, 2 * live)  # of the dense channels 0, 2, 4, ... those that are left
                return (None if taken is None else network.call(torch.mul, taken, 0.5)), live

        register_op(Halve, Halving())

    Raises FpgmError where `operation` is no Operation.
    """
    if not isinstance(operation, Operation):
        raise FpgmError(
            f"{operation!r} is no Operation; derive a class from fpgm_core.graph.Operation, give its object"
        )
    OPERATIONS[target] = operation


def known_class(module: nn.Module) -> type[nn.Module] | None:
    """The registered class that a module is: its own, or one it is derived from without changing what it computes."""
    kinds = type(module).__mro__
    known = next((kind for kind in kinds if _of_class(kind) is not None), None)
    if known is None:
        return None
    changed = {name for kind in kinds[: kinds.index(known)] for name in vars(kind)}
    return None if changed & {"forward", "_conv_forward", "__call__"} else known


def _of_class(kind: type[nn.Module]) -> Operation | None:
    """The operation of a class, registered itself or by its dotted name."""
    return OPERATIONS.get(kind) or OPERATIONS.get(f"{kind.__module__}.{kind.__qualname__}")


def has_hooks(module: nn.Module) -> bool:
    """Whether something is done before or after a module's forward, which nobody can follow."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def operation_of(modules: Mapping[str, nn.Module], node: torch.fx.Node) -> Operation | None:
    """The operation that a node calls, None where nothing is known of it."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        kind = None if has_hooks(module) else known_class(module)
        return None if kind is None else _of_class(kind)
    if node.op == "call_method":
        return OPERATIONS.get(str(node.target)) or OPERATIONS.get(_plain_name(str(node.target)))
    if node.op == "call_function":
        return _of_function(node.target)
    return None


def _of_function(target: Any) -> Operation | None:
    name = getattr(target, "__name__", "")
    known = OPERATIONS.get(target) or OPERATIONS.get(f"{getattr(target, '__module__', '')}.{name}")
    if known is not None or not _is_written_form(target):
        return known
    plain = _plain_name(name)
    homes = (operator,) if target in _OPERATOR_FORMS else (torch, F)
    return next((OPERATIONS[f] for home in homes if (f := getattr(home, plain, None)) in OPERATIONS), None)


def _plain_name(name: str) -> str:
    """`relu` of `relu_`, `add` of `iadd` and `__iadd__`: the form that makes a new tensor."""
    if name.startswith("__i") and name.endswith("__"):
        return name[3:-2]
    return name.removesuffix("_") if name.endswith("_") else name.removeprefix("i")


def _is_written_form(target: Any) -> bool:
    """Whether a function writes into its first operand by its name: torch.relu_, operator.iadd."""
    name = getattr(target, "__name__", "")
    return target in _OPERATOR_FORMS or (name.endswith("_") and not name.endswith("__"))


def written(node: torch.fx.Node, module: nn.Module | None = None) -> torch.fx.Node | None:
    """The operand that an operation writes into, whose later readers read the result; None where there is none.

    The one place that decides: a module's `inplace`, a name that ends in an underscore, operator.iadd and its like,
    the argument `inplace`, by keyword or position, and `out`.
    """
    out = node.kwargs.get("out")
    if isinstance(out, torch.fx.Node):
        return out
    if node.op == "call_module":
        changes = bool(getattr(module, "inplace", False))
    elif node.op == "call_method":
        name = str(node.target)
        changes = name.startswith("__i") if name.endswith("__") else name.endswith("_")
    elif node.op == "call_function":
        changes = _is_written_form(node.target) or _asks_for_it(node)
    else:
        return None
    first = node.args[0] if node.args else next(iter(node.kwargs.values()), None)
    return first if changes and isinstance(first, torch.fx.Node) else None


def _asks_for_it(node: torch.fx.Node) -> bool:
    """Whether a function's argument `inplace` is true."""
    if "inplace" in node.kwargs:
        return node.kwargs["inplace"] is not False
    if True not in node.args[1:]:
        return False
    try:
        names = list(inspect.signature(node.target).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return "inplace" in names and dict(zip(names, node.args, strict=False)).get("inplace") is True


def written_operand(modules: Mapping[str, nn.Module], node: torch.fx.Node) -> torch.fx.Node | None:
    """The operand that a node changes; see `written`."""
    module = modules[str(node.target)] if node.op == "call_module" else None
    operation = operation_of(modules, node)
    operand = written(node, module)
    if operation is not None and operation.in_place(node, module) != (operand is not None):
        return node.all_input_nodes[0] if operand is None else None  # the operation knows better
    return operand


def is_in_place(modules: Mapping[str, nn.Module], node: torch.fx.Node) -> bool:
    """Whether an operation changes an operand: whoever reads that later reads the result."""
    return written_operand(modules, node) is not None


def makes_anew(modules: Mapping[str, nn.Module], node: torch.fx.Node) -> bool:
    """Whether an operation only reads what it is given, and writes into memory of its own."""
    operation = operation_of(modules, node)
    return operation is not None and operation.makes_new_memory and not is_in_place(modules, node)


def shape_of(node: torch.fx.Node) -> tuple[int, ...]:
    """The shape of a node's result for one image; () where it is several tensors."""
    shape = node.meta.get("shape")
    return tuple(shape) if isinstance(shape, torch.Size) else ()


def argument(node: torch.fx.Node, position: int, name: str, default: Any = None) -> Any:
    """One argument of a call, by position or by name; "dim" is "axis", too."""
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, node.kwargs.get("axis", default) if name == "dim" else default)


def describe(walk: Builder, node: torch.fx.Node) -> str:
    """An operation as a reason names it."""
    if node.op == "call_module":
        return f"{node.target} ({type(walk.modules[str(node.target)]).__name__})"
    return f"{getattr(node.target, '__name__', node.target)} ({node.name})"


def fits(value: Value, shape: tuple[int, ...]) -> bool:
    """Whether a tensor of this shape has the value's channels in the value's dimension."""
    return value.dim < len(shape) and value.channels == shape[value.dim]


def opaque(walk: Builder, node: torch.fx.Node, inputs: list[Value], reason: str = "") -> Value:
    """An operation that is not followed: what enters it stays whole, what leaves it nobody wrote."""
    hooked = node.op == "call_module" and has_hooks(walk.modules[str(node.target)])
    what = "whose hooks" if hooked else "which"
    reason = reason or f"its channels enter {describe(walk, node)}, {what} removal does not follow"
    for value in inputs:
        walk.fix(value.sources, reason)
    if node.op == "call_module":
        for name, module in walk.modules.items():
            if f"{name}.".startswith(f"{node.target}.") and isinstance(module, nn.Conv2d):
                walk.fixed.setdefault(name, reason)
    shape = shape_of(node)
    return Value(np.full((1, shape[1] if len(shape) > 1 else 1), ALWAYS))


def whole(walk: Builder, node: torch.fx.Node, value: Value) -> Value:
    """A value whose channels this node cannot follow: they stay, and it reads them as it would the image."""
    why = "after a sigmoid or its like, where an absent channel is not zero" if value.weighs else "out of their order"
    walk.fix(value.sources, f"its channels enter {describe(walk, node)} {why}")
    return Value(np.full((1, value.channels), ALWAYS), value.dim)
