"""Which tensor of a checkpoint is which of a network's: by name, by order, by shape; or why none is."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from torch import Tensor

from fpgm_core.models.state_dicts import likelihood

COUNTER = "num_batches_tracked"  # a counter of training that inference never reads
_SHOWN = 3
_COMPARED, _LONGEST = 1000, 200  # names, and characters of one: a file may have any number of any length

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


class Mismatch(Exception):
    """A state dict is not a network's: what differs, as the predicate of a sentence about the file, and what to do."""

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(problem, advice)
        self.problem, self.advice = problem, advice


@dataclass(frozen=True)
class Match:
    """How a state dict is read: `names` gives the name in the file for each of the network's own.

    `num_classes` is how many classes the file's classifier has, where that is not the network's number; `part` the
    prefix under which the network lies in the file; `note` what must be known of how names were matched, or "".
    """

    names: Mapping[str, str]
    num_classes: int | None = None
    part: str = ""
    note: str = ""


def match_names(state: Mapping[str, Tensor], own: Mapping[str, Tensor], *, num_classes: int | None = None) -> Match:
    """How `state` fits a network whose state dict is `own`.

    Names may carry prefixes, or differ altogether where order and shapes say which is which. With `num_classes`, the
    network's number of classes, a classifier of another number fits too. Counters are left out on both sides.

    Raises Mismatch where it does not fit, and where several parts of it fit alike.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in own.items() if not name.endswith(COUNTER)}
    given = {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith(COUNTER)}
    readings, closest = _prefixes(given, wanted)
    fitting = [names for names in readings if _classes(names, given, wanted, num_classes) is not None]
    if fitting:
        names = _likeliest(fitting)
        note = _left_over(set(given) - set(names.values()))
    else:
        found = _by_order(given, wanted, num_classes) or _by_shape(given, wanted)
        if found is None or _classes(found, given, wanted, num_classes) is None:
            raise _mismatch(given, wanted, closest)
        names, note = found, _renamed(found)
    return Match(names, _classes(names, given, wanted, num_classes) or None, _place(names), note)


def _classes(names: Mapping[str, str], given: Shapes, wanted: Shapes, num_classes: int | None) -> int | None:
    """0 where all shapes are the network's, the other number of classes where only that differs; None otherwise."""
    if len(names) != len(wanted):
        return None
    others = {given[name][0] for own, name in names.items() if given[name] != wanted[own] and given[name]}
    fits = all(_alike(given[name], wanted[own], num_classes) for own, name in names.items())
    return next(iter(others), 0) if fits and len(others) < 2 else None


def _alike(given: Shape, wanted: Shape, num_classes: int | None) -> bool:
    """Whether two shapes are equal, or differ in how many classes a classifier's weight or bias is for."""
    return given == wanted or (bool(given and wanted) and wanted[0] == num_classes and given[1:] == wanted[1:])


def _prefixes(given: Shapes, wanted: Shapes) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Readings of the file's names as a prefix and a name of the network's: the complete ones, and the closest.

    A reading under a prefix is complete where the names under it are the network's, all of them and no others. Where
    every name has a prefix of its own (a backbone's, a head's), together they must be.
    """
    has_module = any("module" in own.split(".") for own in wanted)
    inner = {name: name if has_module else _without_module(name) for name in given}
    stripped: dict[str, dict[str, str]] = {}
    mixed: dict[str, str] = {}
    for name, plain in inner.items():
        parts = plain.split(".")
        tails = [(".".join(parts[:at]), ".".join(parts[at:])) for at in range(len(parts))]
        known = [(prefix, tail) for prefix, tail in tails if tail in wanted]
        for prefix, tail in known:
            stripped.setdefault(prefix, {})[tail] = name
        if known:
            mixed.setdefault(known[0][1], name)
    complete = []
    for prefix, names in stripped.items():
        if len(names) != len(wanted):
            continue  # there may be as many prefixes as names
        under = [plain for plain in inner.values() if not prefix or plain.startswith(f"{prefix}.")]
        if len(under) == len(names):
            complete.append(names)
    if len(mixed) == len(given) == len(wanted) and mixed not in complete:
        complete.append(mixed)
    return complete, max(stripped.values(), key=len, default={})


def _without_module(name: str) -> str:
    """A name without DataParallel's "module" wherever it stands: for networks that have no such names themselves."""
    return ".".join(part for part in name.split(".") if part != "module")


def _place(names: Mapping[str, str]) -> str:
    """The prefix under which a network lies, as its first tensor has it; "" where names differ altogether."""
    own, name = next(iter(names.items()))
    return name.removesuffix(own).rstrip(".") if name.endswith(own) else ""


def _likeliest(fitting: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
    first, *others = sorted(fitting, key=lambda names: likelihood(_place(names)))
    if others and likelihood(_place(first)) == likelihood(_place(others[0])):
        both = f"{_place(first)} and {_place(others[0])}"
        raise Mismatch(f"holds two networks that fit, {both}", "save the state dict of the one you mean")
    return first


def _modules(shapes: Shapes) -> dict[str, dict[str, Shape]]:
    """The shapes of every module's own tensors, by the module's name, in order."""
    modules: dict[str, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        module, _, tensor = name.rpartition(".")
        modules.setdefault(module, {})[tensor] = shape
    return modules


def _by_order(given: Shapes, wanted: Shapes, num_classes: int | None) -> dict[str, str] | None:
    """Names matched module by module, in the order in which both networks registered them; None where that fails.

    Every module must hold tensors of the same names and shapes, and numbers in names must count upwards on both
    sides: a file whose names were sorted says nothing about order, as safetensors' never do.
    """
    if list(given) == sorted(given) or not (_counts_upwards(given) and _counts_upwards(wanted)):
        return None
    theirs, ours = _modules(given), _modules(wanted)
    pairs = list(zip(theirs.items(), ours.items(), strict=False))
    alike = len(theirs) == len(ours) and all(
        there.keys() == here.keys() and all(_alike(there[name], here[name], num_classes) for name in here)
        for (_, there), (_, here) in pairs
    )
    if not alike:
        return None
    return {_joined(own, name): _joined(module, name) for (module, there), (own, _) in pairs for name in there}


def _joined(module: str, tensor: str) -> str:
    return f"{module}.{tensor}" if module else tensor


def _counts_upwards(shapes: Shapes) -> bool:
    """Whether modules whose names differ in numbers alone stand in the order of these numbers."""
    latest: dict[str, list[int]] = {}
    for module in _modules(shapes):
        numbers = [int(number) for number in re.findall(r"\d+", module)]
        pattern = re.sub(r"\d+", "#", module)
        if pattern in latest and numbers <= latest[pattern]:
            return False
        latest[pattern] = numbers
    return True


def _by_shape(given: Shapes, wanted: Shapes) -> dict[str, str] | None:
    """Names matched as they are, and the others where a tensor of that last name and shape is the only one of all."""
    both = {name: name for name in wanted if name in given and given[name] == wanted[name]}
    if len(given) != len(wanted) or not both:
        return None
    kinds = [{name: (name.rpartition(".")[2], shape) for name, shape in shapes.items()} for shapes in (given, wanted)]
    theirs, ours = ({kind: name for name, kind in side.items() if name not in both} for side in kinds)
    unique = all(list(side.values()).count(kind) == 1 for side in kinds for kind in ours)
    if not unique or theirs.keys() != ours.keys() or len(theirs) + len(both) != len(given):
        return None
    return both | {ours[kind]: theirs[kind] for kind in ours}


def _left_over(names: Collection[str]) -> str:
    if not names:
        return ""
    first = sorted(names)[:_SHOWN]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"it holds tensors of something else, which are left out: {', '.join(first)}{more}"


def _renamed(names: Mapping[str, str]) -> str:
    own, name = next((own, name) for own, name in names.items() if own != name)
    how = "by order and shape" if sum(own != name for own, name in names.items()) > _SHOWN else "by shape"
    return f"its names are not the network's ({name} is read as {own}): they were matched {how}, so check its accuracy"


def _mismatch(given: Shapes, wanted: Shapes, names: Mapping[str, str]) -> Mismatch:
    """What differs: missing and unexpected names with the nearest, shapes side by side; and what to do."""
    unexpected = {name: given[name] for name in sorted(set(given) - set(names.values()))}
    missing = sorted(set(wanted) - set(names))
    lines = [f"missing {own}{_nearest(own, wanted[own], unexpected)}" for own in missing[:_SHOWN]]  # it takes long
    lines += [f"missing {own}" for own in missing[_SHOWN:]]
    lines += [f"unexpected {name}" for name in unexpected]
    lines += [
        f"{own} has shape {given[name]}, not {wanted[own]}"
        for own, name in sorted(names.items())
        if given[name] != wanted[own]
    ]
    more = f" and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    fitting = sum(given[name] == wanted[own] for own, name in names.items())
    problem = f"is for another network: {'; '.join(lines[:_SHOWN])}{more}; {fitting} of {len(wanted)} tensors fit"
    return Mismatch(problem, _advice(given, wanted, names))


def _advice(given: Shapes, wanted: Shapes, names: Mapping[str, str]) -> str:
    pairs = [(given[name], wanted[own]) for own, name in names.items() if given[name] != wanted[own]]
    smaller = all(len(a) == len(b) and all(x <= y for x, y in zip(a, b, strict=True)) for a, b in pairs)
    if pairs and smaller and len(names) == len(wanted) == len(given):
        return "it looks like one that was pruned already, which Network.from_module opens"
    if not pairs and len(given) == len(wanted):
        return "rename its tensors to the network's names"
    return "open the network that it was saved from, or give that module to Network.from_module"


def _nearest(own: str, shape: Shape, unexpected: Shapes) -> str:
    def likeness(name: str) -> float:
        return SequenceMatcher(None, own, name).ratio()

    alike = [name for name in unexpected if _last(name) == _last(own) and len(name) <= _LONGEST][:_COMPARED]
    same = [name for name in alike if unexpected[name] == shape]
    if same:
        return f" (it has {max(same, key=likeness)} of the same shape {shape})"
    near = [name for name in alike if likeness(name) > 0.6]
    name = max(near, key=likeness, default="")
    return f" {shape} (the nearest it has is {name} {unexpected[name]})" if name else ""


def _last(name: str) -> str:
    return name.rpartition(".")[2]
