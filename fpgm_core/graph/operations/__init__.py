"""What is known of operations: one class each, and one table that says which of them a forward calls."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from fpgm_core.graph.operations.arithmetic import Elementary, MatrixProduct, Multiplication
from fpgm_core.graph.operations.base import (
    OPERATIONS,
    Operation,
    Rebuilt,
    is_in_place,
    makes_anew,
    operation_of,
    register_op,
    written_operand,
)
from fpgm_core.graph.operations.channels import Concatenation, Copied, Item, Split, Stack
from fpgm_core.graph.operations.choosing import (
    ChannelShuffle,
    Flip,
    GatedHalves,
    Narrow,
    OfItsType,
    Padding,
    PixelShuffle,
    PixelUnshuffle,
    Repeat,
)
from fpgm_core.graph.operations.conditions import Choice, Comparison
from fpgm_core.graph.operations.elementwise import (
    DroppedInTraining,
    Elementwise,
    InstanceStatistics,
    PaddedWith,
    ParametricReLU,
    PooledWithPlaces,
    Spatial,
    Unpooled,
    clamped,
    constant,
    passed,
    raised,
)
from fpgm_core.graph.operations.extreme import Extreme
from fpgm_core.graph.operations.functional import FunctionalBatchNorm, FunctionalConvolution, FunctionalLinear
from fpgm_core.graph.operations.joint_norms import (
    FirstGlobalResponseNorm,
    FirstLayerNorm,
    FirstRMSNorm,
    GlobalResponseNorm,
    JointNormalisation,
    KeptNorm,
    as_plain_norm,
    plain_norm,
)
from fpgm_core.graph.operations.layers import (
    AcrossOrWithin,
    BatchNorm,
    ChannelNorm,
    Convolution,
    Linear,
    TransposedConvolution,
    UnfollowedNorm,
)
from fpgm_core.graph.operations.shapes import (
    Contiguous,
    Expand,
    LaidOut,
    ReadWhole,
    Reduction,
    Reshape,
    Softmax,
    Transpose,
    as_laid_out,
)

__all__ = [
    "OPERATIONS",
    "KeptNorm",
    "Operation",
    "Rebuilt",
    "as_plain_norm",
    "is_in_place",
    "makes_anew",
    "operation_of",
    "plain_norm",
    "register_op",
    "written_operand",
]


_COUNTED_BY_RUNNING = (AcrossOrWithin, FunctionalConvolution, FunctionalLinear, MatrixProduct, ReadWhole)


def _named(names: str, operation: Operation, *modules: type[nn.Module]) -> None:
    """Register functions of torch and torch.nn.functional, and tensor methods, by name; and modules."""
    for name in names.split():
        found = [getattr(home, name, None) for home in (torch, F)]
        methods = [name] if hasattr(torch.Tensor, name) else []
        for target in (*(one for one in found if one is not None), *methods):
            register_op(target, operation)
    _register(modules, operation)


def _register(targets: tuple[Any, ...], operation: Operation) -> None:
    operation.counted = not isinstance(operation, _COUNTED_BY_RUNNING)
    for target in targets:
        register_op(target, operation)


_named("relu", Elementwise(role="relu"), nn.ReLU)
_named("relu6", Elementwise(role="relu6"), nn.ReLU6)
_named(
    "leaky_relu elu gelu silu mish hardswish tanh celu selu softsign tanhshrink abs neg negative sign square sqrt sin"
    " expm1 log1p erf asinh hardshrink softshrink floor ceil round trunc frac nan_to_num zeros_like sgn arctan atan",
    Elementwise(),
    *(nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish, nn.Tanh, nn.CELU, nn.SELU, nn.Softsign),
    *(nn.Tanhshrink, nn.Hardshrink, nn.Softshrink, nn.RReLU),
)
_named(
    "sigmoid hardsigmoid softplus exp logsigmoid cos rsqrt ones_like isnan isfinite logical_not",
    Elementwise(constant(1.0)),
    *(nn.Sigmoid, nn.Hardsigmoid),
)
_named("threshold", Elementwise(passed), nn.Threshold)
_register((nn.Softplus, nn.LogSigmoid), Elementwise(constant(1.0)))
_named("clamp clip hardtanh", Elementwise(clamped), nn.Hardtanh)
_named("pow", Elementwise(raised))
_register((operator.pow,), Elementwise(raised))
_register((operator.neg, operator.abs), Elementwise())
_named("dropout dropout2d alpha_dropout feature_dropout", Elementwise(shares_memory=True), nn.Dropout, nn.Dropout2d)
_named("dropout1d dropout3d", Elementwise(shares_memory=True), nn.Dropout1d, nn.Dropout3d)
_named("detach", Elementwise(shares_memory=True))
_register((nn.AlphaDropout, nn.FeatureAlphaDropout), Elementwise(shares_memory=True))
_register((nn.Identity,), Elementwise(role="identity", shares_memory=True))
_register(("torchvision.ops.stochastic_depth.stochastic_depth",), DroppedInTraining())
_named(
    "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d adaptive_avg_pool1d"
    " adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d grid_sample"
    " grid_sampler",
    Spatial(),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.LPPool1d, nn.LPPool2d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
)

_named("instance_norm", InstanceStatistics())

_named("add", Elementary("sum"))
_register((operator.add,), Elementary("sum"))
_named("sub subtract maximum minimum", Elementary())
_register((operator.sub,), Elementary())
_named("mul multiply", Multiplication())
_register((operator.mul,), Multiplication())
_named("div divide true_divide", Multiplication(divides=True))
_register((operator.truediv,), Multiplication(divides=True))

_named("gt lt ge le eq ne greater less greater_equal less_equal not_equal", Comparison())
_register((operator.gt, operator.lt, operator.ge, operator.le, operator.eq, operator.ne), Comparison())
_register((torch.where,), Choice(0, 1, 2))
_register(("where",), Choice(1, 0, 2))
_named("masked_fill", Choice(1, 0, 2))

_register((torch.matmul, operator.matmul, torch.bmm, "matmul", "bmm"), MatrixProduct())

_register((nn.Conv2d, nn.Conv3d), Convolution())
_register((nn.Conv1d,), AcrossOrWithin())
_register((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), TransposedConvolution())
_register((nn.Linear,), Linear())
_register((F.conv2d,), FunctionalConvolution())
_register((F.linear,), FunctionalLinear())
_register((F.batch_norm,), FunctionalBatchNorm())
_register((nn.BatchNorm2d, nn.SyncBatchNorm, "torchvision.ops.misc.FrozenBatchNorm2d"), BatchNorm())
_register((nn.BatchNorm1d, nn.BatchNorm3d), ChannelNorm())
_register((nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), ChannelNorm())
_register((nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, FirstLayerNorm, FirstRMSNorm), JointNormalisation())
_register((GlobalResponseNorm, FirstGlobalResponseNorm), JointNormalisation())
_register((F.layer_norm, F.group_norm, F.rms_norm), UnfollowedNorm())

_named("view reshape flatten squeeze unsqueeze view_as reshape_as", Reshape(), nn.Flatten)
_named("permute transpose swapaxes", Transpose())
_named("contiguous", Contiguous())
_named("clone", Contiguous(copies=True))
_named("mean sum amax amin nanmean nansum prod", Reduction())
_named("var_mean std_mean", Reduction(several=True))
_named("logsumexp", Reduction(weighs=True))
_named("max min", Extreme())
_named("median", Reduction(several=True))
_named("std var", Reduction())
_register((F.normalize,), ReadWhole())
_named("softmax log_softmax softmin", Softmax(), nn.Softmax, nn.LogSoftmax, nn.Softmin)
_register((nn.Softmax2d,), ReadWhole())
_register((as_laid_out,), LaidOut())
_named("expand expand_as", Expand())
_named("cat concat concatenate", Concatenation())
_named("stack", Stack())
_named("index_select", Copied())
_named("chunk split tensor_split split_with_sizes unsafe_chunk unsafe_split", Split())
_named("new_zeros new_ones new_full new_empty new_tensor", OfItsType())
_named("flip", Flip())
_named("roll", Flip(dims_at=2))
_named("repeat tile", Repeat())
_named("narrow", Narrow())
_named("pixel_shuffle", PixelShuffle(), nn.PixelShuffle)
_named("prelu", ParametricReLU(), nn.PReLU)
_register((nn.Hardtanh,), Elementwise(clamped))
_named("max_pool2d_with_indices adaptive_max_pool2d_with_indices", PooledWithPlaces())
_named("max_unpool2d", Unpooled(), nn.MaxUnpool2d)
_named("pixel_unshuffle", PixelUnshuffle(), nn.PixelUnshuffle)
_named("channel_shuffle native_channel_shuffle", ChannelShuffle(), nn.ChannelShuffle)
_named("glu", GatedHalves(), nn.GLU)
_named("to type_as float half double type", Elementwise(shares_memory=True))
_register((operator.getitem, getattr), Item())
_register((F.pad,), Padding())
_named("interpolate upsample", Spatial(), nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d)
_register((nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d), PaddedWith())
_register((nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d), Spatial())
_register((nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d), Spatial())
_register((nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d), Spatial())
