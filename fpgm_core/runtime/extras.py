"""Packages that only some uses need; `pyproject.toml` names them as extras."""

from __future__ import annotations

import importlib
from types import ModuleType

from fpgm_core.errors import FpgmError


def require(module: str, *, extra: str) -> ModuleType:
    """Import a module of an optional package.

    Raises FpgmError, naming the extra to install, where the package is missing. Where it is there and
    something that it imports is not, the import's own error says more.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name != package:
            raise
        raise FpgmError(f"{package} is not installed; pip install 'fpgm-explorer[{extra}]'") from error
