"""Scores of a whole network, for criteria that need more than one layer's weights."""

from __future__ import annotations

from typing import Any

import torch

from fpgm_core.criteria.criterion import Scores
from fpgm_core.criteria.registry import get_criterion
from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.graph import TracedModule
from fpgm_core.runtime.progress import Work, run


def score_work(
    network: TracedModule, criterion: str, images: ImageSet, *, device: torch.device = torch.device("cpu")
) -> Work[Scores]:
    """The scores of every layer that can be pruned, by a criterion that needs training images.

    Hand them to `Network.with_scores`. Images beyond the first that the criterion reads do not count, so that a plan
    means the same filters everywhere.

    Raises FpgmError for a criterion that needs no images, for a network that is not trained, and where nothing can be
    scored.
    """
    score_images = get_criterion(criterion).score_images
    if score_images is None:
        raise FpgmError(f"{criterion} needs no images: a network has its scores by itself")
    check_scorable(network, criterion)
    return _checked(network, criterion, (yield from score_images(network, images, device)))


def score(
    network: TracedModule, criterion: str, images: ImageSet, *, device: torch.device = torch.device("cpu")
) -> Scores:
    """`score_work`, run to its end."""
    return run(score_work(network, criterion, images, device=device))


def check_scorable(network: TracedModule, criterion: str) -> None:
    """Raise FpgmError where a criterion needs training images and the network is not trained."""
    trained: Any = getattr(network, "trained", True)  # a module that was only traced is taken as it is
    if get_criterion(criterion).needs == "images" and not trained:
        raise FpgmError(f"{criterion} needs a trained network: {getattr(network, 'notice', None)}")


def batch_norm_scores(network: TracedModule, criterion: str) -> Scores:
    """The scores of every layer that can be pruned, by a criterion that reads batch norms.

    Raises FpgmError for a criterion that does not, and where no layer has any.
    """
    score_batch_norms = get_criterion(criterion).score_batch_norms
    if score_batch_norms is None:
        raise FpgmError(f"{criterion} does not read batch norms")
    return _checked(network, criterion, score_batch_norms(network))


def _checked(network: TracedModule, criterion: str, scores: Scores) -> Scores:
    if not scores:
        name = getattr(network, "name", "this network")
        raise FpgmError(f"{criterion} finds nothing to score in {name}; choose another criterion")
    return scores
