"""The public names: locked, sorted, importable, documented."""

import importlib
import inspect
import pkgutil

import pytest

import fpgm_core

ROOMS = [
    name
    for name in ("fpgm_core", *(f"fpgm_core.{m.name}" for m in pkgutil.iter_modules(fpgm_core.__path__) if m.ispkg))
    if hasattr(importlib.import_module(name), "__all__")
]
TOP = {
    "COUPLINGS", "CRITERIA", "RECOVERY_METHODS", "EvaluationConfig", "FpgmError", "ImageSet", "Measurement", "Network",
    "Plan", "PrunedNetwork", "SelectionOptions", "evaluate", "explore", "export", "list_models",
    "load_model", "num_pruned",
    "recover", "suggest",
}  # fmt: skip


def kind_then_name(name):
    """Constants, classes, functions; by name in each."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def members(room):
    module = importlib.import_module(room)
    return {name: getattr(module, name) for name in module.__all__}


def test_the_names_of_the_package():
    assert set(fpgm_core.__all__) == TOP  # a name added or lost is a decision, not an accident


def test_the_rooms_are_there():
    wanted = {
        f"fpgm_core.{name}"
        for name in (
            "models",
            "data",
            "graph",
            "calibration",
            "criteria",
            "pruning",
            "inference",
            "recovery",
            "evaluation",
            "timing",
            "allocation",
            "training",
            "export",
        )
    }
    assert wanted <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_all_is_sorted_and_importable(room):
    names = list(importlib.import_module(room).__all__)
    assert names == sorted(set(names), key=kind_then_name)
    assert set(members(room)) == set(names)


@pytest.mark.parametrize("room", ROOMS)
def test_nothing_public_is_left_out(room):
    module = importlib.import_module(room)
    public = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    }
    assert public == set(module.__all__)


@pytest.mark.parametrize("room", ROOMS)
def test_everything_public_is_documented(room):
    for name, member in members(room).items():
        if not (inspect.isclass(member) or inspect.isfunction(member)):
            continue
        described = [(name, member)]
        if inspect.isclass(member):
            own = vars(member).items()
            described += [
                (f"{name}.{attribute}", value)
                for attribute, value in own
                if not attribute.startswith("_")
                and (inspect.isfunction(value) or isinstance(value, (property, classmethod, staticmethod)))
            ]
        for title, value in described:
            text = inspect.getdoc(value) or ""
            assert text, f"{room}.{title} has no docstring"
            assert not text.startswith(f"{name}("), f"{room}.{title} has only the docstring dataclass made"
