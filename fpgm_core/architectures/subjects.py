"""The convolutional networks that the table is made of: torchvision's, and timm's by family."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from fpgm_core.errors import FpgmError
from fpgm_core.models import get_model_info, list_models

_ATTENTION = ("vit_", "swin_", "maxvit_")  # torchvision's networks without convolutions worth the name
_STEP = 32
_SEED = 0

# Of every family of convolutional networks in timm's registry, by its module of timm.models: the smallest, and others
# whose blocks differ. Chosen by family, before any was tried.
TIMM = {
    "byobnet": "resnet33ts gcresnext26ts repvgg_a0 gernet_s",
    "convmixer": "convmixer_768_32",
    "convnext": "convnext_atto convnextv2_atto",
    "cspnet": "cspresnet50 darknet53 cs3darknet_s",
    "cspnext": "cspnext_tiny",
    "densenet": "densenet121 densenetblur121d",
    "dla": "dla34 dla46x_c",
    "dpn": "dpn48b",
    "edgenext": "edgenext_xx_small",
    "efficientnet": "efficientnet_b0 efficientnet_b0_gn mobilenetv2_100 mixnet_s tf_efficientnet_lite0",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "ghostnet": "ghostnet_050 ghostnetv2_100",
    "hardcorenas": "hardcorenas_a",
    "hgnet": "hgnetv2_b0",
    "hrnet": "hrnet_w18_small",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "mambaout": "mambaout_femto",
    "metaformer": "convformer_s18 poolformer_s12",
    "mobilenetv3": "mobilenetv3_small_050 mobilenetv4_conv_small",
    "mobilevit": "mobilevitv2_050",
    "nasnet": "nasnetalarge",
    "nfnet": "nf_resnet26 nf_regnet_b0 nfnet_l0",
    "pnasnet": "pnasnet5large",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_002 regnety_002 regnetz_005",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m0_9",
    "res2net": "res2net50_14w_8s",
    "resnest": "resnest14d",
    "resnet": "resnet18d seresnet50 ecaresnet26t resnetblur50 resnet50_gn",
    "resnetv2": "resnetv2_18 resnetv2_50x1_bit",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42b",
    "senet": "legacy_seresnet18",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "tresnet": "tresnet_m",
    "vgg": "vgg11_bn",
    "visformer": "visformer_tiny",
    "vovnet": "ese_vovnet19b_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41",
}


@dataclass(frozen=True)
class Subject:
    """A network by name: `source` is "torchvision" or "timm", `family` what it belongs to there."""

    source: str
    family: str
    name: str

    @property
    def title(self) -> str:
        """The name with its source, as one writes it."""
        return f"{self.source}/{self.name}"

    def build(self) -> tuple[nn.Module, tuple[int, int, int]]:
        """The network with random weights, in eval mode, and the shape of images it was made for.

        Raises FpgmError, naming the extra, for one of timm's where that is not installed.
        """
        info = get_model_info(self.title)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            return info.build().eval(), info.input_shape


def subjects() -> tuple[Subject, ...]:
    """Every network of the table, in its order."""
    own = [info for info in list_models("torchvision/*") if not info.name.startswith(_ATTENTION)]
    found = [Subject("torchvision", info.family, info.name) for info in own]
    return (*found, *(Subject("timm", family, name) for family, names in TIMM.items() for name in names.split()))


def subject(title: str) -> Subject:
    """The subject of that title, "timm/resnet50". Raises FpgmError for one that is not in the table."""
    found = next((one for one in subjects() if one.title == title), None)
    if found is None:
        raise FpgmError(f"{title!r} is not in the table; choose one such as {subjects()[0].title}")
    return found


def smallest_shape(module: nn.Module, native: tuple[int, int, int]) -> tuple[int, int, int]:
    """The smallest images that the network takes, in steps of 32 from 64 x 64 on; `native` where no smaller ones."""
    channels, side, _ = native
    shadow = copy.deepcopy(module).to("meta")
    for small in range(2 * _STEP, side, _STEP):
        try:
            with torch.no_grad():
                shadow(torch.zeros(2, channels, small, small, device="meta"))
        except Exception:  # whatever a forward raises on images that are too small for it
            continue
        return channels, small, small
    return native
