"""Allocation: which rate for which unit, from a goal; predicted on training images, chosen on the choose half."""

from fpgm_core.allocation.allocators import (
    ALLOCATORS,
    Allocator,
    allocated,
    get_allocator,
    register_allocator,
    unregister_allocator,
)
from fpgm_core.allocation.choices import Choices, UnitChoices
from fpgm_core.allocation.costs import CostFunction, macs_of, params_of
from fpgm_core.allocation.front import CUTS, STUDY, Front, FrontPoint, front_work
from fpgm_core.allocation.goals import COSTS, CostMeasure, Goal, register_cost, unregister_cost
from fpgm_core.allocation.losses import LOSSES, Losses, losses_work
from fpgm_core.allocation.milliseconds import Stairs, milliseconds, stairs_of
from fpgm_core.allocation.prices import Price, bargain, dearest, prices
from fpgm_core.allocation.ranking import RankingStudy, StudiedPlan, known_ranking, ranking_work
from fpgm_core.allocation.search import Found, SearchConfig, search_work
from fpgm_core.allocation.solver import Problem, solve
from fpgm_core.allocation.suggestion import (
    Prepared,
    SuggestConfig,
    Suggestion,
    prepared_work,
    suggest,
    suggest_work,
    suggestion_of,
    within_loss_of_work,
    within_loss_work,
)
from fpgm_core.allocation.timed import TimedSuggestion, Tried, timed_suggestion_work

__all__ = [
    "ALLOCATORS",
    "COSTS",
    "CUTS",
    "LOSSES",
    "STUDY",
    "Allocator",
    "Choices",
    "CostFunction",
    "CostMeasure",
    "Found",
    "Front",
    "FrontPoint",
    "Goal",
    "Losses",
    "Prepared",
    "Price",
    "Problem",
    "RankingStudy",
    "SearchConfig",
    "Stairs",
    "StudiedPlan",
    "SuggestConfig",
    "Suggestion",
    "TimedSuggestion",
    "Tried",
    "UnitChoices",
    "allocated",
    "bargain",
    "dearest",
    "front_work",
    "get_allocator",
    "known_ranking",
    "losses_work",
    "macs_of",
    "milliseconds",
    "params_of",
    "prepared_work",
    "prices",
    "ranking_work",
    "register_allocator",
    "register_cost",
    "search_work",
    "solve",
    "stairs_of",
    "suggest",
    "suggest_work",
    "suggestion_of",
    "timed_suggestion_work",
    "unregister_allocator",
    "unregister_cost",
    "within_loss_of_work",
    "within_loss_work",
]
