"""Eight-bit networks: ONNX Runtime's static quantisation of an ONNX network, calibrated on training images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.pruning import Network
from fpgm_core.runtime.extras import require
from fpgm_core.timing.onnx_form import INPUT

_AT_ONCE = 16
CALIBRATION, _FEWEST = 256, 64  # training images that ranges are read off: of 32 x 32, and of large ones


def training_for(network: Network, training: ImageSet | None) -> ImageSet:
    """The first training images, as many as ranges are read off: 256 of 32 x 32, fewer where they are larger.

    Raises FpgmError where the network's weights are random, where there are none, and for images of another shape.
    """
    if not network.trained:
        raise FpgmError(f"eight bits are calibrated on trained weights: {network.notice}")
    if training is None:
        raise FpgmError(
            f"eight bits are calibrated on training images, and there are none of {network.dataset or network.name} "
            "here; open it with training images, and with the mean and std that they are normalised by"
        )
    network.check_images(training)
    _, height, width = network.input_shape
    return training.at_most(max(_FEWEST, CALIBRATION * 32 * 32 // (height * width)))


def as_int8(content: bytes, training: ImageSet) -> bytes:
    """A float32 ONNX network in eight bits: QDQ, weights int8 by channel, activations uint8 by their least and largest.

    The ranges are read off `training` images, all of them. Norms are folded first, as ONNX Runtime folds them. Weights
    take seven bits of the eight: on x86 without VNNI the eighth overflows, and the accuracy would be this machine's
    alone (ONNX Runtime, "Quantize ONNX models"). The same network and images give the same bytes.

    Raises FpgmError where the packages of the extra `export` are missing, and where ONNX Runtime cannot quantise it.
    """
    for package in ("onnx", "onnxruntime", "sympy"):
        require(package, extra="export")
    tools = require("onnxruntime.quantization", extra="export")
    prepare = require("onnxruntime.quantization.shape_inference", extra="export").quant_pre_process
    with tempfile.TemporaryDirectory() as folder:
        plain, ready, small = (Path(folder) / name for name in ("plain.onnx", "ready.onnx", "small.onnx"))
        plain.write_bytes(content)
        try:
            prepare(str(plain), str(ready), skip_symbolic_shape=True)  # torch wrote the shapes
            tools.quantize_static(
                str(ready),
                str(small),
                _reader(tools, training),
                quant_format=tools.QuantFormat.QDQ,
                activation_type=tools.QuantType.QUInt8,
                weight_type=tools.QuantType.QInt8,
                per_channel=True,
                reduce_range=True,
            )
        except Exception as error:  # whatever it raises on a network that it does not read
            raise FpgmError(
                f"ONNX Runtime cannot quantise this network ({type(error).__name__}: {error}); use the float32 file"
            ) from error
        return small.read_bytes()


def _reader(tools: Any, training: ImageSet) -> Any:
    """What hands ONNX Runtime the images, normalised, some at once."""

    class Reader(tools.CalibrationDataReader):  # it insists on a class of its own
        def __init__(self) -> None:
            self._batches = _batches(training)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._batches, None)

    return Reader()


def _batches(training: ImageSet) -> Iterator[dict[str, np.ndarray]]:
    for begin in range(0, len(training), _AT_ONCE):
        yield {INPUT: training.normalised(begin, min(begin + _AT_ONCE, len(training))).cpu().numpy()}
