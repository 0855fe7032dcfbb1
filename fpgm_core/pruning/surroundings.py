"""A network that is a part of another: a detector's backbone, whose heads stay as they are."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from torch import nn

from fpgm_core.errors import FpgmError

_DETECTION = "torchvision.models.detection."


@dataclass(frozen=True, eq=False)
class Surroundings:
    """A module and the dotted name of the part of it that is pruned; everything else is locked."""

    whole: nn.Module
    part: str

    def with_part(self, module: nn.Module) -> nn.Module:
        """A copy of the whole with another module in the part's place."""
        kept = {id(self.whole.get_submodule(self.part)): module}
        return copy.deepcopy(self.whole, kept)


def surroundings_of(module: nn.Module, part: str | None) -> Surroundings | None:
    """What `part` of a module lies in; None where the module itself is the network.

    torchvision's detection networks are opened by their backbones: behind those, how many boxes there are depends on
    the data, and nothing is followed. Raises FpgmError for a part that is not there.
    """
    if part is None and type(module).__module__.startswith(_DETECTION) and hasattr(module, "backbone"):
        part = "backbone"
    if part is None:
        return None
    if part not in dict(module.named_modules()) or not part:
        raise FpgmError(f"{type(module).__name__} has no part {part!r}; name one of its modules, such as backbone")
    return Surroundings(module, part)
