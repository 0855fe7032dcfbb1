"""The fast path: prefix cache, segments, folding, fusing, images on the device."""

from fpgm_core.inference.folding import folded_module
from fpgm_core.inference.prefix_cache import Chain, Memory, memory
from fpgm_core.inference.segments import segments

__all__ = [
    "Chain",
    "Memory",
    "folded_module",
    "memory",
    "segments",
]
