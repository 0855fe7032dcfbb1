"""Let torchvision import beside a torch build its C++ operators were not compiled for."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
from types import ModuleType
from typing import Any

import torch

# torchvision asks for these two schemas while it is imported; its Python parts need nothing more.
_SCHEMAS = tuple(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor" for name in ("nms", "qnms"))
_library: Any = None


def extension_loads() -> bool:
    """Whether torchvision's own compiled operators load here."""
    package = importlib.util.find_spec("torchvision")
    locations = package.submodule_search_locations if package else None
    if not locations:
        return True  # nothing installed to mend: the import itself will say so
    finder = importlib.machinery.FileFinder(
        locations[0], (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES)
    )
    extension = finder.find_spec("_C")
    if extension is None or extension.origin is None:
        return False
    try:
        torch.ops.load_library(extension.origin)
    except OSError:
        return False
    return True


def import_torchvision(module: str = "torchvision") -> ModuleType:
    """Import torchvision, or one of its modules, mending the import where the builds do not match.

    Where torchvision's compiled operators load (matching builds) nothing is registered. Elsewhere the
    two operator schemas it looks for at import are declared first, without an implementation: models,
    transforms and data sets work, and calling `nms` still fails, as it must.

    Raises ImportError where torchvision is not installed.
    """
    global _library
    if _library is None and not hasattr(torch.ops.torchvision, "nms") and not extension_loads():
        _library = torch.library.Library("torchvision", "DEF")
        for schema in _SCHEMAS:
            _library.define(schema)
    return importlib.import_module(module)
