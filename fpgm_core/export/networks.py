"""A compact network in the forms that runtimes read, and each of them reloaded as a function of images."""

from __future__ import annotations

import io
import types
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.fx
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from fpgm_core.export.source import python_source
from fpgm_core.graph import with_plain_answer
from fpgm_core.runtime.extras import require
from fpgm_core.timing.onnx_form import any_batch, quiet

WEIGHTS, ONNX, INT8 = "compact.safetensors", "compact.onnx", "compact.int8.onnx"
Reloaded = Callable[[Tensor], Tensor]  # images (B, C, H, W) -> logits (B, classes)
Reload = Callable[[Mapping[str, bytes]], Reloaded]


def as_safetensors(module: torch.nn.Module) -> bytes:
    """The state dict as a safetensors file: the same tensors give the same bytes."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(module.state_dict().items())}
    return save_safetensors(state, {"format": "pt"})


def as_python(module: torch.fx.GraphModule, title: str, input_shape: tuple[int, ...]) -> bytes:
    """The Python file that rebuilds the network from its safetensors."""
    return python_source(with_plain_answer(module), title, WEIGHTS, input_shape).encode()


def as_pt2(module: torch.nn.Module, input_shape: tuple[int, ...]) -> bytes:
    """The network as torch.export's archive, for any batch size."""
    with quiet():
        plain = with_plain_answer(module)
        program = torch.export.export(plain, (torch.zeros(2, *input_shape),), dynamic_shapes=any_batch())
        for node in program.graph.nodes:  # where the exporting machine keeps its files is nobody's business
            for key in ("stack_trace", "nn_module_stack", "source_fn_stack", "from_node", "torch_fn"):
                node.meta.pop(key, None)
        archive = io.BytesIO()
        torch.export.save(program, archive)
    return archive.getvalue()


def reload_python(files: Mapping[str, bytes]) -> Reloaded:
    """The network that the Python file builds, with the weights beside it."""
    built = types.ModuleType("exported")
    exec(compile(files["compact.py"], "compact.py", "exec"), built.__dict__)  # our own file, just written
    network = built.Compact()
    network.load_state_dict(load_safetensors(files[WEIGHTS]))
    return network.eval()


def reload_pt2(files: Mapping[str, bytes]) -> Reloaded:
    """The network in the .pt2 archive."""
    with quiet():
        return torch.export.load(io.BytesIO(files["compact.pt2"])).module()


def reload_onnx(files: Mapping[str, bytes], name: str = ONNX) -> Reloaded:
    """The ONNX file of a name in onnxruntime, on the CPU."""
    onnxruntime = require("onnxruntime", extra="export")  # heavy, and needed here alone
    session = onnxruntime.InferenceSession(files[name], providers=["CPUExecutionProvider"])

    def answer(images: torch.Tensor) -> Any:
        tensors = [torch.from_numpy(array) for array in session.run(None, {"images": images.contiguous().numpy()})]
        return tensors[0] if len(tensors) == 1 else tuple(tensors)

    return answer
