"""Another machine: a folder of small ONNX networks to time there, and its result read back into the kept tables."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fpgm_core.errors import FpgmError
from fpgm_core.pruning import Network, Plan, PrunedNetwork
from fpgm_core.runtime.extras import require
from fpgm_core.runtime.files import read_file
from fpgm_core.runtime.progress import Progress, Work
from fpgm_core.timing.board_probe import KIND, checksum
from fpgm_core.timing.engine import TimingConfig
from fpgm_core.timing.layers import LayerShape, layer_shapes
from fpgm_core.timing.onnx_form import as_onnx
from fpgm_core.timing.prediction import Predictor, kept_predictor
from fpgm_core.timing.probing import (
    LAYERS,
    WHOLE,
    Whole,
    keep_whole,
    whole_identity,
    whole_plans,
    widths,
)
from fpgm_core.timing.table import LayerTimes, keep_times

_FORMAT = 1
_MOST = 64 << 20  # bytes of a result
_SMALL = 1024  # numbers up to which a tensor is kept as it is
_BROKEN = (ArithmeticError, AttributeError, KeyError, IndexError, TypeError, ValueError, RecursionError)


def board_files_work(network: Network, like: Plan, *, batch: int = 1) -> Work[dict[str, bytes]]:
    """The files of a folder that times a network's layers, and whole networks under a plan's coupling, elsewhere.

    They hold no weights beyond a thousand numbers a tensor: constants stand in for them. Raises FpgmError where the
    packages of the extra `export` are missing.
    """
    pieces, tasks = dict[str, bytes](), list[dict[str, Any]]()
    for shape in _shapes(network):
        task = _task(shape.told, LAYERS)
        for pair in shape.points:
            name = f"{len(tasks)}:{pair[0]}-{pair[1]}"
            pieces[name] = shape.form(*pair).onnx
            task["pieces"].append({"name": name, "images": list(shape.images(pair[0], batch))})
        tasks.append(task)
    task, pruned = _task("whole networks", WHOLE), _whole(network, like.coupling)
    for number, one in enumerate(pruned):
        yield Progress(number, len(pruned), "writing whole networks")
        name = f"whole:{number}"
        pieces[name] = without_weights(as_onnx(one.compact().eval(), network.input_shape))
        task["pieces"].append({"name": name, "images": [batch, *network.input_shape]})
    work = {
        "format": _FORMAT, "model": network.name, "batch": batch, "coupling": like.coupling,
        "network": whole_identity(network, like.coupling, {})["network"], "tasks": [*tasks, task],
    }  # fmt: skip
    packed = io.BytesIO()
    arrays: dict[str, Any] = {name: np.frombuffer(content, np.uint8) for name, content in pieces.items()}
    np.savez_compressed(packed, **arrays)
    here = Path(__file__).parent
    return {
        "probe.py": (here / "board_probe.py").read_bytes(),
        "turns.py": (here / "turns.py").read_bytes(),
        "work.json": json.dumps(work).encode(),
        "pieces.npz": packed.getvalue(),
    }


def _task(told: str, config: TimingConfig) -> dict[str, Any]:
    return {"told": told, "runs": config.runs, "width": config.width, "seconds": config.seconds, "pieces": []}


def _shapes(network: Network) -> list[LayerShape]:
    return list(dict.fromkeys(shape for shape in layer_shapes(network.flow) if shape is not None))


def _whole(network: Network, coupling: str) -> list[PrunedNetwork]:
    return [network.prune(plan) for plan in whole_plans(network, network.plan(coupling=coupling))]


def without_weights(content: bytes) -> bytes:
    """An ONNX network with constants in place of its larger tensors, which the runtime fills in: it takes as long."""
    onnx = require("onnx", extra="export")
    model = onnx.load_from_string(content)
    graph, filled = model.graph, []
    for tensor in list(graph.initializer):
        if tensor.data_type != onnx.TensorProto.FLOAT or np.prod(tensor.dims) <= _SMALL:
            continue
        value = onnx.helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [1.0 / np.prod(tensor.dims[1:])])
        shape = f"{tensor.name}:shape"
        graph.initializer.append(
            onnx.helper.make_tensor(shape, onnx.TensorProto.INT64, [len(tensor.dims)], list(tensor.dims))
        )
        filled.append(onnx.helper.make_node("ConstantOfShape", [shape], [tensor.name], value=value))
        graph.initializer.remove(tensor)
    nodes = [*filled, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return bytes(model.SerializeToString(deterministic=True))


def read_board(content: bytes, network: Network, like: Plan, *, name: str = "the file") -> Predictor:
    """Keep the times that another board's probe.py wrote, and predict from them.

    Raises FpgmError, naming the fix, for a file that is no such result, that is damaged or unfinished, and that is of
    another network or coupling.
    """
    result, config = _checked(content, name), like.coupling
    shapes, pruned = _shapes(network), _whole(network, config)
    try:
        times, identity = result["times"], _identity(result)
        if result["model"] != network.name:
            raise FpgmError(f"{name} is of {result['model']}, not of {network.name}; open that network, or probe this")
        if set(times) != {str(number) for number in range(len(shapes) + 1)}:
            raise FpgmError(
                f"{name} holds {len(times)} of {len(shapes) + 1} timings of {network.name}; run probe.py to its end, "
                "from a folder that this version wrote"
            )
        found = [_layer(shape, times[str(number)]) for number, shape in enumerate(shapes)]
        whole = _timed_whole(pruned, times[str(len(shapes))])
    except _BROKEN as error:
        if isinstance(error, FpgmError):
            raise
        raise FpgmError(
            f"{name} does not fit {network.name} under coupling {config} ({error}); export the folder again"
        ) from error
    for one in found:
        keep_times(identity, one)
    keep_whole(network, config, identity, whole)
    predictor = kept_predictor(network, config, identity)
    assert predictor is not None
    return predictor


def load_board(path: Path, network: Network, like: Plan) -> Predictor:
    """The same from a file."""
    return read_board(read_file(path, _MOST, "the result "), network, like, name=path.name)


def is_board(content: bytes) -> bool:
    """Whether a file says that it is a result of probe.py."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.get("kind") == KIND


def _checked(content: bytes, name: str) -> dict[str, Any]:
    if not is_board(content):
        raise FpgmError(f"{name} is no result of probe.py; run that in the folder of `fpgm probe --export`")
    found: dict[str, Any] = json.loads(content)
    if found.get("sha256") != checksum(found):
        raise FpgmError(f"{name} is damaged: its checksum does not hold; copy it again from the board")
    if found.get("format") != _FORMAT:
        raise FpgmError(f"{name} is of another format; export the folder again with this version")
    return found


def _identity(result: Mapping[str, Any]) -> dict[str, Any]:
    """Which machine timed it, of the types that it must have.

    The file's own checksum is in it: what somebody brings never takes the place of what was timed here.
    """
    given = result["identity"]
    words = {name: str(given[name])[:200] for name in ("runtime", "version", "processor", "device")}
    numbers = {name: int(given[name]) for name in ("threads", "batch")}
    if not all(1 <= number <= 4096 for number in numbers.values()):
        raise ValueError("so many threads or images cannot be")
    return {**words, **numbers, "board": str(result["sha256"])}


def _layer(shape: LayerShape, values: Mapping[str, Any]) -> LayerTimes:
    points = [list(pair) for pair in shape.points]
    ms = [float(one[0]) for one in values["ms"]]
    return LayerTimes.from_values(shape, {"points": points, "ms": ms, "busy": values["busy"]})


def _timed_whole(pruned: list[PrunedNetwork], values: Mapping[str, Any]) -> Whole:
    inputs, outputs = (np.array(one).tolist() for one in zip(*map(widths, pruned), strict=True))
    wanted = {"inputs": inputs, "outputs": outputs, "ms": values["ms"], "busy": values["busy"]}
    return Whole.from_values(wanted, len(inputs[0]))
