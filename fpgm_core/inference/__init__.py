"""The fast path: prefix cache, segments, folding, fusing, images on the device, right answers."""

from fpgm_core.inference.batches import reset_batches, usual_batch
from fpgm_core.inference.classifier import FEW_CLASSES, TOP, Classifier, DenseAnswers, dense_answers
from fpgm_core.inference.classify import count_correct_work, rank_work
from fpgm_core.inference.compact_form import compact_on
from fpgm_core.inference.device_images import on_device
from fpgm_core.inference.folding import folded_module
from fpgm_core.inference.fusing import fused
from fpgm_core.inference.prefix_cache import Chain, PrefixCache
from fpgm_core.inference.segments import segments

__all__ = [
    "FEW_CLASSES",
    "TOP",
    "Chain",
    "Classifier",
    "DenseAnswers",
    "PrefixCache",
    "compact_on",
    "count_correct_work",
    "dense_answers",
    "folded_module",
    "fused",
    "on_device",
    "rank_work",
    "reset_batches",
    "segments",
    "usual_batch",
]
