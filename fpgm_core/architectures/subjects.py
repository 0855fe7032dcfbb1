"""The convolutional networks that the table is made of: torchvision's, and timm's by family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fpgm_core.errors import FpgmError
from fpgm_core.models import torchvision_models
from fpgm_core.runtime.extras import require
from fpgm_core.runtime.torchvision_import import import_torchvision

_ATTENTION = ("vit_", "swin_", "maxvit_")  # torchvision's networks without convolutions worth the name
_STEP = 32
_SEED = 0

# Two or more of every family of convolutional networks in timm's registry, by its module of timm.models: the smallest,
# and those whose blocks differ. Chosen before any was tried.
TIMM = {
    "byobnet": "gcresnext26ts gcresnet33ts resnet33ts eca_resnext26ts bat_resnext26ts repvgg_a0 mobileone_s0 gernet_s",
    "convmixer": "convmixer_768_32 convmixer_1024_20_ks9_p14",
    "convnext": "convnext_atto convnext_femto_ols convnextv2_atto",
    "cspnet": "cspresnet50 cspresnext50 cspdarknet53 darknet53 cs3darknet_s cs3darknet_focus_s cs3sedarknet_l",
    "cspnext": "cspnext_tiny",
    "densenet": "densenet121 densenetblur121d",
    "dla": "dla34 dla46x_c dla60_res2net",
    "dpn": "dpn48b dpn68b",
    "edgenext": "edgenext_xx_small",
    "efficientnet": "efficientnet_b0 efficientnet_b0_gn efficientnet_lite0 efficientnetv2_rw_t mobilenetv2_100"
    " mobilenetv1_100 mnasnet_small mixnet_s fbnetc_100 spnasnet_100 tinynet_e",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "ghostnet": "ghostnet_050 ghostnetv2_100",
    "hardcorenas": "hardcorenas_a",
    "hgnet": "hgnet_tiny hgnetv2_b0",
    "hrnet": "hrnet_w18_small",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "mambaout": "mambaout_femto",
    "metaformer": "convformer_s18 poolformer_s12 poolformerv2_s12",
    "mobilenetv3": "mobilenetv3_small_050 lcnet_050 fbnetv3_b mobilenetv4_conv_small",
    "mobilevit": "mobilevit_xxs mobilevitv2_050",
    "nasnet": "nasnetalarge",
    "nfnet": "nf_resnet26 nf_regnet_b0 nfnet_l0 dm_nfnet_f0",
    "pnasnet": "pnasnet5large",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_002 regnety_002 regnetz_005 regnetv_040",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m0_9",
    "res2net": "res2net50_14w_8s res2next50",
    "resnest": "resnest14d resnest26d",
    "resnet": "resnet18d resnet50 resnext50_32x4d seresnet50 ecaresnet26t resnetblur50 resnetaa50 resnet50_gn"
    " resnetrs50 skresnet18",
    "resnetv2": "resnetv2_18 resnetv2_50 resnetv2_50x1_bit",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42b",
    "senet": "legacy_seresnet18 legacy_seresnext26_32x4d",
    "shvit": "shvit_s1",
    "sknet": "skresnet34 skresnext50_32x4d",
    "starnet": "starnet_s050",
    "tresnet": "tresnet_m",
    "vgg": "vgg11 vgg11_bn",
    "visformer": "visformer_tiny",
    "vovnet": "vovnet39a ese_vovnet19b_slim ese_vovnet19b_dw",
    "xception": "legacy_xception",
    "xception_aligned": "xception41 xception65p",
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
        """The network with random weights, in eval mode, and the shape of images it was made for."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            if self.source == "torchvision":
                return torchvision_models.build(self.name).eval(), torchvision_models.input_shape(self.name)
            module: Any = _timm().create_model(self.name, pretrained=False).eval()
        return module, tuple(module.pretrained_cfg["input_size"])


def _timm() -> Any:
    import_torchvision()  # which timm imports, and which does not import by itself beside every build of torch
    return require("timm", extra="timm")


def subjects() -> tuple[Subject, ...]:
    """Every network of the table, in its order."""
    own = [n for n in torchvision_models.names() if not n.startswith(_ATTENTION)]
    found = [Subject("torchvision", torchvision_models.family(name), name) for name in own]
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
    shadow = None
    for small in range(2 * _STEP, side, _STEP):
        try:
            if shadow is None:
                import copy

                shadow = copy.deepcopy(module).to("meta")
            with torch.no_grad():
                shadow(torch.zeros(2, channels, small, small, device="meta"))
        except Exception:  # whatever a forward raises on images that are too small for it
            continue
        return channels, small, small
    return native
