"""What a recovery method is: a record whose work takes one pruned network and returns another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.pruning import Network, PrunedNetwork
from fpgm_core.runtime.device import choose_device, choose_precision
from fpgm_core.runtime.progress import Work, run


@dataclass(frozen=True)
class RecoveryContext:
    """Where a recovery runs: the device, the precision of its forward passes, and whether what late layers make of
    images is remembered for whoever recovers a network next that differs from this one in a late layer.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    remember_late: bool = True


def _none(network: Network) -> None:
    """Nothing is refused."""


@dataclass(frozen=True)
class RecoveryMethod:
    """One rung of the recovery ladder.

    `begin(pruned, images, context, **options)` is the method's work; `images` lie on the CPU. A
    Progress whose `partial` is a PrunedNetwork offers a provisional result, valid until the work goes on.
    `needs_images` says whether it reads training images, `trains` whether it follows gradients (the other methods
    take seconds). `passes` is about how many forward passes over 2,000 training images it takes: for estimates of time.
    `refusal(network)` is why a network has no such rung, None where it has: what is refused is not offered, and leaves
    a network as it is.
    """

    name: str
    title: str
    summary: str
    begin: Callable[..., Work[PrunedNetwork]]
    needs_images: bool = False
    trains: bool = False
    passes: float = 0.0
    refusal: Callable[[Network], str | None] = _none

    def work(
        self,
        pruned: PrunedNetwork,
        images: ImageSet | None = None,
        context: RecoveryContext = RecoveryContext(),
        **options: Any,
    ) -> Work[PrunedNetwork]:
        """The method at work. Raises FpgmError at once where it needs images and gets none."""
        if self.needs_images and images is None:
            raise FpgmError(f"{self.name} reads training images; give some")
        return self.begin(pruned, images, context, **options)

    def apply(
        self,
        pruned: PrunedNetwork,
        images: ImageSet | None = None,
        *,
        device: str = "auto",
        precision: str = "float32",
        **options: Any,
    ) -> PrunedNetwork:
        """Another pruned network, recovered, with its provenance; the first is not changed."""
        place = choose_device(device)
        context = RecoveryContext(place, choose_precision(precision, place))
        return run(self.work(pruned, images, context, **options))
