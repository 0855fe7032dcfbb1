"""A module as it is opened: traced and its layers made plain, or as torch.export sees what torch.fx cannot trace."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch.fx
from torch import nn

from fpgm_core.errors import FpgmError
from fpgm_core.graph.plain_layers import make_plain
from fpgm_core.graph.tracer import TRACE_SECONDS, TooLong, trace, where
from fpgm_core.runtime.limits import time_limit
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.progress import Progress


def opened(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    *,
    seconds: float = TRACE_SECONDS,
    on_progress: Callable[[Progress], object] | None = None,
) -> tuple[nn.Module, torch.fx.GraphModule | None]:
    """The module to work with, and its trace where that is at hand.

    It is the module itself, or a traced one whose layers are plain (see `make_plain`), or what torch.export makes of
    one that torch.fx cannot trace. One that neither can is returned as it is: whoever asks for its graph is told why.
    A forward that drops at random in eval mode, or runs in half precision by itself, does neither in the traced one: a
    UserWarning says so. `on_progress` is told of every operation that is traced; a network has about as many as it has
    modules.

    Raises FpgmError where tracing takes longer than `seconds`.
    """
    total = sum(1 for _ in module.modules())

    def tell(count: int) -> None:
        if on_progress is not None:
            on_progress(Progress(min(count, total), total, f"tracing: {count} operations"))

    try:
        with FORWARD_LOCK:
            traced = trace(module, input_shape, seconds=seconds, told=tell)
    except TooLong as error:
        raise FpgmError(f"tracing this network takes too long{where(error)}; does a loop wait for a value?") from error
    except Exception:
        return _exported(module, input_shape, seconds), None
    for settled in traced.meta["settled"]:
        warnings.warn(f"{type(module).__name__}: {settled}", stacklevel=4)
    return (traced, None) if make_plain(traced) or traced.meta["settled"] else (module, traced)


def _exported(module: nn.Module, input_shape: tuple[int, int, int], seconds: float) -> nn.Module:
    from fpgm_core.graph.exported import exported  # brings torch.export and sympy, a second's worth

    try:
        with time_limit(seconds, TooLong):
            found = exported(module, input_shape)
            return (
                opened(found, input_shape, seconds=seconds)[0] if trace(found, input_shape).meta["settled"] else found
            )
    except Exception:  # what torch.fx said of it is told to whoever asks for the graph: it names the line
        return module
