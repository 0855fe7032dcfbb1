"""Every criterion by its name: what menus, command line choices, plans and tests read."""

from __future__ import annotations

from fpgm_core.criteria.batch_norm_scale import BATCH_NORM_SCALE
from fpgm_core.criteria.criterion import Criterion
from fpgm_core.criteria.fpgm import FPGM, FPGM_COSINE, FPGM_L1
from fpgm_core.criteria.fpgm_exact import FPGM_EXACT
from fpgm_core.criteria.fpgm_mix import FPGM_MIX
from fpgm_core.criteria.l1_norm import L1_NORM
from fpgm_core.criteria.l2_norm import L2_NORM
from fpgm_core.criteria.random import RANDOM
from fpgm_core.criteria.refit_cost import REFIT_COST, REFIT_COST_GREEDY
from fpgm_core.criteria.taylor import TAYLOR
from fpgm_core.errors import FpgmError
from fpgm_core.runtime.registry import Registry

CRITERIA = Registry[Criterion](
    "criterion",
    (
        L1_NORM, L2_NORM, FPGM, FPGM_L1, FPGM_COSINE, FPGM_EXACT, FPGM_MIX, RANDOM, REFIT_COST, REFIT_COST_GREEDY,
        BATCH_NORM_SCALE, TAYLOR,
    ),
)  # fmt: skip
"""Every criterion by name, in the order of menus: a live view, in which registered ones come last."""


def get_criterion(name: str) -> Criterion:
    """The criterion called `name`. Raises FpgmError, listing the names, where there is none."""
    return CRITERIA.find(name)


def register_criterion(criterion: Criterion) -> Criterion:
    """Add a criterion of your own, for plans and wherever criteria are listed; returns it.

    Registering another one under the same name replaces it, so that a notebook's cell can be run again. Plans and
    score caches know a criterion by its name alone.

    >>> register_criterion(Criterion(
    ...     name="largest_weight",
    ...     title="Largest weight",
    ...     summary="Prunes the filters whose largest weight is smallest.",
    ...     stages=(Stage(lambda filters, layer, options: filters.flatten(1).abs().amax(1).double()),),
    ... ))

    Raises FpgmError for a name that one of the library's own criteria has, or that is no name.
    """
    if not criterion.name.isidentifier():
        raise FpgmError(f"{criterion.name!r} is no name; use letters, digits and underscores")
    return CRITERIA.add(criterion)


def unregister_criterion(name: str) -> None:
    """Take out a criterion that `register_criterion` added. Raises FpgmError for any other name."""
    CRITERIA.remove(name)
