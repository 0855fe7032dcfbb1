"""The training loss: cross entropy, and where there is a teacher, what its answers say."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from fpgm_core.training.recipe import Recipe


def batch_loss(logits: Tensor, labels: Tensor, *, recipe: Recipe, teacher_logits: Tensor | None = None) -> Tensor:
    """The mean loss of a batch, from float32 `logits` (B, classes) and `labels` (B,).

    With `teacher_logits` (B, classes) the recipe's share of it is T^2 KL(teacher || student), both softened by the
    temperature T (Hinton et al., Distilling the Knowledge in a Neural Network, 2015).
    """
    loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
    if teacher_logits is None:
        return loss
    share, temperature = recipe.distillation, recipe.temperature
    divergence = F.kl_div(
        (logits / temperature).log_softmax(1),
        (teacher_logits.float() / temperature).log_softmax(1),
        reduction="batchmean",
        log_target=True,
    )
    return (1 - share) * loss + share * temperature * temperature * divergence
