"""The app on a live network, from a script or a notebook."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from fpgm_core.data import ImageSet, ImageSource, ImageSplits, Preprocessing, open_dataset, open_images, split_source
from fpgm_core.errors import FpgmError
from fpgm_core.pruning import Network

_ROOT = Path(__file__).parents[1]


def explore(
    model: Network | nn.Module | str,
    images: Any = None,
    *,
    training: Any = None,
    input_shape: tuple[int, int, int] | None = None,
    preprocessing: Any = None,
    class_names: Sequence[str] | None = None,
    name: str | None = None,
    port: int = 0,
    open_browser: bool = True,
) -> Any:
    """Serve the app on a network and its images, in this process, and return; the page opens in a browser.

        explorer = explore(model, validation_dataset, input_shape=(3, 224, 224))
        explorer.url; explorer.stop()

    `model` is a `Network`, a module with its `input_shape` (channels, height, width), or a name of the registry.
    `images` are an ImageSet, a torch `Dataset` of (image, label), or what `--data` takes; they are split by class into
    choose and sealed. `training` is the same for training images; without it half of choose is trained on, which is
    said. `preprocessing` is what is done to pictures, by default what the weights want: a Preprocessing, torchvision's
    `weights.transforms()` or timm's data config. `port` 0 takes a free one.

    The page is served to this machine alone. Raises FpgmError where the app is not beside the library (it comes with
    a clone, `pip install -e '.[app]'`), and for a network or images that cannot be.
    """
    if preprocessing is not None:
        preprocessing = Preprocessing.of(preprocessing)
    network = _network(model, input_shape, preprocessing, class_names, name)
    splits = None if images is None else _splits(network, images, training)
    return _serving().serve(network, splits, preprocessing=preprocessing, port=port, open_browser=open_browser)


def _network(
    model: Network | nn.Module | str,
    input_shape: tuple[int, int, int] | None,
    preprocessing: Preprocessing | None,
    class_names: Sequence[str] | None,
    name: str | None,
) -> Network:
    if isinstance(model, Network):
        return model
    if isinstance(model, str):
        return Network.load(model)
    return Network.from_module(model, input_shape, name=name, class_names=class_names, preprocessing=preprocessing)


def _splits(network: Network, images: Any, training: Any) -> ImageSplits | dict[str, ImageSet]:
    """Images by split: as they are where they are at hand, else sources that are decoded when they are served."""
    if isinstance(images, ImageSet):
        choose, sealed = images.halves()
        if training is None:
            choose, training = choose.halves()
        if not isinstance(training, ImageSet):
            raise FpgmError("give training images of the same kind as the images: an ImageSet")
        return {"choose": choose, "sealed": sealed, "train": training}
    if isinstance(images, (str, Path)):
        return open_images(images, training, known_classes=network.class_names)
    return split_source(_source(images, network), None if training is None else _source(training, network))


def _source(images: Any, network: Network) -> ImageSource:
    return images if isinstance(images, ImageSource) else open_dataset(images, class_names=network.class_names)


def _serving() -> Any:
    """The app's module that serves it. It lies beside the library, not in it."""
    if not (_ROOT / "app.py").is_file():
        raise FpgmError("the app is not installed; install it from a clone: pip install -e '.[app]'")
    if str(_ROOT) not in sys.path:
        sys.path.append(str(_ROOT))
    try:
        return importlib.import_module("pages.ui.serving")
    except ModuleNotFoundError as error:
        raise FpgmError(f"the app needs {error.name}; pip install -e '.[app]'") from error
