"""Preprocessing: what torchvision's and timm's own transforms make of a picture."""

import numpy as np
import pytest
import torch
from PIL import Image

from fpgm_core import FpgmError, Network
from fpgm_core.data import Preprocessing, torchvision_preprocessing
from fpgm_core.runtime.torchvision_import import import_torchvision


def picture(width=130, height=97, mode="RGB"):
    channels = {"RGB": 3, "L": 1, "RGBA": 4}[mode]
    pixels = np.random.RandomState(0).randint(0, 256, (height // 8, width // 8, channels), np.uint8).squeeze()
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("name", "weights"), [("resnet50", "IMAGENET1K_V1"), ("resnet50", "DEFAULT"), ("efficientnet_b1", "DEFAULT")]
)
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_pixels_are_those_of_torchvisions_transforms(name, weights, mode):
    models = import_torchvision("torchvision.models")
    transforms = models.get_model_weights(name)[weights].transforms()
    preprocessing = torchvision_preprocessing(name, weights)
    for size in ((300, 500), (500, 300), (260, 260), (100, 90)):
        image = picture(*size, mode=mode)
        pixels = torch.from_numpy(preprocessing.apply(image).copy())
        mean, std = (torch.tensor(values) for values in (preprocessing.mean, preprocessing.std))
        made = ((pixels / 255 - mean) / std).permute(2, 0, 1)
        torch.testing.assert_close(made, transforms(image.convert("RGB")), rtol=1e-5, atol=1e-5)


def test_every_classifier_of_torchvision_says_how_its_pictures_are_prepared():
    models = import_torchvision("torchvision.models")
    for name in models.list_models(module=models):
        for weights in models.get_model_weights(name):
            found = torchvision_preprocessing(name, weights.name)
            assert found.crop == tuple(weights.transforms().crop_size * 2)


def test_a_timm_config_is_read_as_timm_reads_it():
    timm = pytest.importorskip("timm", exc_type=ImportError) if import_torchvision() else None
    from timm.data import create_transform, resolve_data_config

    for name in ("resnet50.a1_in1k", "tf_efficientnet_lite0.in1k", "beit_base_patch16_224.in22k_ft_in22k_in1k"):
        config = timm.get_pretrained_cfg(name).to_dict()
        preprocessing = Preprocessing.from_timm(config)
        transforms = create_transform(**resolve_data_config(pretrained_cfg=config))
        image = picture(333, 259)
        pixels = torch.from_numpy(preprocessing.apply(image).copy())
        mean, std = (torch.tensor(values) for values in (preprocessing.mean, preprocessing.std))
        torch.testing.assert_close(
            ((pixels / 255 - mean) / std).permute(2, 0, 1), transforms(image), rtol=1e-5, atol=1e-5
        )


def test_a_picture_of_the_right_size_comes_back_as_it_is():
    image = picture(32, 32)
    preprocessing = Preprocessing(resize=32, crop=(32, 32))
    assert np.array_equal(preprocessing.apply(image), np.asarray(image))
    grey = Preprocessing(mean=(0.5,), std=(0.5,))
    assert grey.apply(image).shape == (32, 32, 1)


def test_text_changes_what_it_names():
    before = Preprocessing(resize=256, crop=(224, 224))
    after = before.changed("resize=128x160,crop=112,interpolation=bicubic,mean=0.5/0.4/0.3,std=1/2/3")
    assert after == Preprocessing(
        resize=(128, 160), crop=(112, 112), interpolation="bicubic", mean=(0.5, 0.4, 0.3), std=(1.0, 2.0, 3.0)
    )
    assert before.changed("") == before
    assert before.changed("resize=none").resize is None


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("size=3", "cannot read 'size=3'"),
        ("resize=big", "cannot read 'resize=big'"),
        ("resize=0", "a side of 0"),
        ("crop=1x2x3", "cannot read"),
        ("interpolation=cubic", "choose one of bilinear, bicubic"),
        ("std=0/1/1", "std above 0"),
        ("mean=nan/0/0", "finite"),
        ("mean=0.5/0.5", "not one a channel"),
    ],
)
def test_what_cannot_be_is_refused(text, word):
    with pytest.raises(FpgmError, match=word):
        Preprocessing().changed(text)


def test_a_network_knows_its_own(resnet20):
    assert resnet20.preprocessing.crop == (32, 32)
    own = Preprocessing(resize=40, crop=(32, 32))
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    assert Network.from_module(module, (3, 32, 32), preprocessing=own).preprocessing == own
    assert Network.from_module(module, (3, 32, 32)).preprocessing is None
    known = Network.from_module(module, (3, 32, 32), normalization=((0.5,) * 3, (0.2,) * 3)).preprocessing
    assert (known.resize, known.crop, known.mean) == (37, (32, 32), (0.5, 0.5, 0.5))


@pytest.mark.parametrize("config", [{}, {"input_size": (3, 8, 8), "crop_mode": "border", "mean": (0,), "std": (1,)}])
def test_other_configs_and_transforms_are_refused(config):
    with pytest.raises(FpgmError, match="give a Preprocessing"):
        Preprocessing.from_timm(config)
    with pytest.raises(FpgmError, match="not torchvision's transforms of a classifier"):
        Preprocessing.from_torchvision(lambda x: x)


def test_what_is_usual_can_be_written_and_read_back():
    for shape in ((3, 224, 224), (3, 64, 96), (1, 28, 28)):
        usual = Preprocessing.usual(shape)
        assert (usual.channels, usual.crop) == (shape[0], shape[1:])
        assert Preprocessing().changed(usual.text) == usual
    assert Preprocessing.usual((3, 224, 224)).resize == 256
    assert Preprocessing.usual((3, 32, 32)).resize == 32
    assert Preprocessing().changed(Preprocessing(interpolation="box").text) == Preprocessing(interpolation="box")
    with pytest.raises(FpgmError, match="reads 4 channels"):
        Preprocessing.usual((4, 32, 32))
