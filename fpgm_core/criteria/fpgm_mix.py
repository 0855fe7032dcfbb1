"""FPGM's mix: some filters by norm, the rest by distance among the survivors."""

from __future__ import annotations

from fpgm_core.criteria.criterion import Criterion, Stage
from fpgm_core.criteria.fpgm import euclidean
from fpgm_core.criteria.l2_norm import l2_norms

FPGM_MIX = Criterion(
    name="fpgm_mix",
    title="FPGM mix",
    summary="Prunes a share of the rate by L2 norm first, then the rest by FPGM among the survivors.",
    assumes="small filters are unimportant, and of the rest the central ones replaceable",
    source="FPGM paper, section 4.1: 40% is 10% by norm and 30% by distance",
    options=("mix_share",),
    stages=(
        Stage(l2_norms, share=lambda options: options.mix_share),
        Stage(euclidean, share=lambda options: 1 - options.mix_share),
    ),
)
