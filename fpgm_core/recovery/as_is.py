"""As is: filters are gone, and nothing is done about it."""

from __future__ import annotations

from fpgm_core.data import ImageSet
from fpgm_core.pruning import PrunedNetwork
from fpgm_core.recovery.method import RecoveryContext, RecoveryMethod
from fpgm_core.runtime.progress import Work


def _as_is_work(pruned: PrunedNetwork, images: ImageSet | None, context: RecoveryContext) -> Work[PrunedNetwork]:
    yield from ()
    return pruned


AS_IS = RecoveryMethod("as_is", "As is", "Filters are gone, everything else is as in the dense network.", _as_is_work)
