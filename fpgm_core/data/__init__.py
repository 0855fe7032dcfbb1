"""Images: the bundled CIFAR-10, its choose and sealed halves, the user's own copy."""

from fpgm_core.data.bundle import write_bundle
from fpgm_core.data.images import Batch, ImageSet
from fpgm_core.data.registry import DATA, HALVES, SPLITS, DataInfo, get_data, load_images, sample_images

__all__ = [
    "DATA",
    "HALVES",
    "SPLITS",
    "Batch",
    "DataInfo",
    "ImageSet",
    "get_data",
    "load_images",
    "sample_images",
    "write_bundle",
]
