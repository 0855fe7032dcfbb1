"""Packages that only some uses need; `pyproject.toml` names them as extras."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from fpgm_core.errors import FpgmError


def require(module: str, *, extra: str) -> ModuleType:
    """Import a module of an optional package. Raises as `naming_the_extra` does."""
    with naming_the_extra(module.partition(".")[0], extra=extra):
        return importlib.import_module(module)


@contextmanager
def naming_the_extra(package: str, *, extra: str) -> Iterator[None]:
    """Say what to install where a package is found missing inside.

    Raises FpgmError, naming the extra to install, where the package is missing. Where it is there and
    something that it imports is not, the import's own error says more.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise FpgmError(f"{package} is not installed; pip install 'fpgm-explorer[{extra}]'") from error
