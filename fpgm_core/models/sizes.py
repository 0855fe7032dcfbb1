"""What a network's weights take, told without making them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from fpgm_core.models.registry import get_model_info


def weight_bytes(name: str) -> int:
    """The bytes of the parameters of the network called `name`, without its weights. Raises as `get_model_info`."""
    with _without_values():
        module = get_model_info(name).build()
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


@contextmanager
def _without_values() -> Iterator[None]:
    """What modules this thread makes inside have parameters of shapes alone, which take neither room nor time to fill.

    Not `torch.device("meta")`: networks that compute their widths with tensors could not be made on it.
    """
    here = threading.get_ident()

    def to_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> Any:
        if parameter is None or threading.get_ident() != here:
            return None  # as it is
        return nn.Parameter(parameter.to("meta"), parameter.requires_grad)

    handle = register_module_parameter_registration_hook(to_meta)
    try:
        yield
    finally:
        handle.remove()
