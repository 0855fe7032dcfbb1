"""Networks as ONNX."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import torch

from fpgm_core.graph import with_plain_answer
from fpgm_core.runtime.extras import require
from fpgm_core.runtime.locks import FORWARD_LOCK

INPUT = "images"


def as_onnx(module: torch.nn.Module, input_shape: tuple[int, ...]) -> bytes:
    """A network as ONNX, input "images" and output "logits", for any batch size; `input_shape` is an image's.

    Raises FpgmError where the packages of the extra `export` are missing.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):  # the last reads what the others write
        require(package, extra="export")
    with quiet():
        program = torch.onnx.export(
            with_plain_answer(module),
            (torch.zeros(2, *input_shape),),
            dynamo=True,
            dynamic_shapes=any_batch(),
            input_names=[INPUT],
            output_names=["logits"],
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    for holder in (proto, proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output,
                   *proto.graph.value_info, *proto.graph.initializer):  # fmt: skip
        del holder.metadata_props[:]  # stack traces, with the paths of this machine
        holder.doc_string = ""
    return bytes(proto.SerializeToString(deterministic=True))


def any_batch() -> Any:
    """What exporters take a batch's size for: any. Made when asked for: it imports sympy, half a second."""
    return ({0: torch.export.Dim("batch")},)


@contextmanager
def quiet() -> Iterator[None]:
    """Exporters announce their progress on stdout and warn about themselves; results have stdout to themselves.

    Warnings and stdout are the process's: one thread at a time, and no network is traced or run meanwhile.
    """
    with FORWARD_LOCK, warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
