"""Images: the bundled CIFAR-10, one's own from folders, archives and data sets; choose, sealed and training images."""

from fpgm_core.data.bundle import write_bundle
from fpgm_core.data.classes import class_misfit
from fpgm_core.data.datasets import open_dataset
from fpgm_core.data.folders import open_folder
from fpgm_core.data.images import Batch, ImageSet
from fpgm_core.data.opening import ImageSplits, open_images, split_source
from fpgm_core.data.preprocessing import Preprocessing, read_size, torchvision_preprocessing
from fpgm_core.data.registry import (
    DATA,
    HALVES,
    SPLITS,
    DataInfo,
    get_data,
    load_images,
    register_data,
    sample_images,
    unregister_data,
)
from fpgm_core.data.sources import ImageSource
from fpgm_core.data.zips import unpack_images

__all__ = [
    "DATA",
    "HALVES",
    "SPLITS",
    "Batch",
    "DataInfo",
    "ImageSet",
    "ImageSource",
    "ImageSplits",
    "Preprocessing",
    "class_misfit",
    "get_data",
    "load_images",
    "open_dataset",
    "open_folder",
    "open_images",
    "read_size",
    "register_data",
    "sample_images",
    "split_source",
    "torchvision_preprocessing",
    "unpack_images",
    "unregister_data",
    "write_bundle",
]
