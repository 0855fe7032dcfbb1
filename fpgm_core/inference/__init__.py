"""The fast path: prefix cache, segments, folding, fusing, images on the device."""

from fpgm_core.inference.classifier import Classifier, dense_answers
from fpgm_core.inference.device_images import on_device
from fpgm_core.inference.folding import folded_module
from fpgm_core.inference.prefix_cache import Chain, PrefixCache
from fpgm_core.inference.segments import segments

__all__ = [
    "Chain",
    "Classifier",
    "PrefixCache",
    "dense_answers",
    "folded_module",
    "on_device",
    "segments",
]
