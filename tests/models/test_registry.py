"""Every record is complete, and every way to get weights gives what it says."""

import dataclasses
import io
from importlib.metadata import version
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file

from fpgm_core.errors import FpgmError
from fpgm_core.models import cifar_models, fingerprint, get_model_info, list_models, load_model, torchvision_models
from fpgm_core.runtime.storage import Kept, ResultStore
from fpgm_core.runtime.torchvision_import import import_torchvision

MODELS = list_models()
RECORDED = [info for info in MODELS if info.record]
SMALL = ("squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v2", "googlenet")


def by_name(infos):
    return pytest.mark.parametrize("info", infos, ids=lambda info: info.name)


@by_name(MODELS)
def test_a_record_is_complete_and_found_by_its_name(info):
    assert get_model_info(info.name) is info
    assert info.title
    assert info.summary
    assert info.family
    assert info.name.startswith(info.family)
    assert {"cifar10": (10, 32), "imagenet1k": (1000, 299 if info.name == "inception_v3" else 224)}[info.dataset] == (
        info.num_classes,
        info.input_shape[1],
    )
    assert info.input_shape[0] == 3
    assert info.input_shape[1] == info.input_shape[2]
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.name = "other"


def test_names_are_unique_and_the_cifar_networks_come_first():
    names = [info.name for info in MODELS]
    assert len(set(names)) == len(names)
    assert names[:6] == ["resnet20", "resnet32", "resnet56", "resnet110", "mobilenetv2_cifar", "vgg16_bn_cifar"]


def test_every_classification_network_of_torchvision_has_a_record():
    models = import_torchvision("torchvision.models")
    names = [info.name for info in torchvision_models.infos()]
    assert names == models.list_models(module=models)
    assert {"resnet50", "vit_b_16", "efficientnet_b0", "wide_resnet50_2"} <= set(names)


@pytest.fixture
def forgotten():
    """torchvision's names as they are first asked for in a process."""
    torchvision_models.names.cache_clear()
    yield torchvision_models
    torchvision_models.names.cache_clear()


def test_torchvision_is_not_imported_to_name_what_was_named_before(forgotten, own_home, monkeypatch):
    known = forgotten.names()
    forgotten.names.cache_clear()
    with monkeypatch.context() as without:
        without.setattr(forgotten, "import_torchvision", lambda name: pytest.fail("imported"))
        assert forgotten.names() == known
    (kept,) = (own_home / "names").iterdir()
    for damaged in (b"", b"[]", kept.read_bytes().replace(b"resnet50", b"resnet51"), b"\xff"):
        kept.write_bytes(damaged)
        forgotten.names.cache_clear()
        assert forgotten.names() == known
        assert kept.with_name(f"{kept.name}.damaged").read_bytes() == damaged


@pytest.mark.parametrize("values", [[], [1], {"a": 1}, "resnet50", None])
def test_names_that_are_none_are_looked_up_again(forgotten, own_home, values):
    known = forgotten.names()
    store, identity = ResultStore("names"), {"package": "torchvision", "version": version("torchvision")}
    assert store.read(identity, lambda kept: kept.values) == list(known)
    store.write(identity, Kept(values))
    forgotten.names.cache_clear()
    assert forgotten.names() == known


def test_another_version_has_its_own_names(forgotten, own_home, monkeypatch):
    known = forgotten.names()
    ResultStore("names").write({"package": "torchvision", "version": "0.0"}, Kept(["alexnet"]))
    forgotten.names.cache_clear()
    assert forgotten.names() == known


def test_names_that_cannot_be_kept_are_named_all_the_same(forgotten, own_home):
    own_home.write_text("a file where a folder should be")
    assert "resnet50" in forgotten.names()


@pytest.mark.parametrize(("name", "near"), [("resnet21", "resnet20"), ("mobilenetv2", "mobilenet_v2")])
def test_an_unknown_name_is_answered_with_the_nearest(name, near):
    with pytest.raises(FpgmError, match=f"unknown model '{name}'.*{near}"):
        get_model_info(name)


def test_a_name_near_nothing_is_answered_with_the_command_that_lists_them():
    with pytest.raises(FpgmError, match="python -m fpgm_core models"):
        get_model_info("§§§§")


def test_the_records_hold_the_measured_accuracies():
    record = get_model_info("resnet20").record
    correct = {split: record["accuracy"][split]["correct"] for split in ("choose", "sealed", "all")}
    assert correct == {"choose": 4584, "sealed": 4571, "all": 9155}


@by_name(RECORDED)
def test_a_bundled_record_agrees_with_itself_and_with_its_file(info):
    accuracy = info.record["accuracy"]
    assert accuracy["choose"]["correct"] + accuracy["sealed"]["correct"] == accuracy["all"]["correct"]
    assert [accuracy[split]["images"] for split in ("choose", "sealed", "all")] == [5000, 5000, 10000]
    for figure in accuracy.values():
        assert figure["accuracy"] == figure["correct"] / figure["images"]
    assert info.record["dataset"] == info.dataset
    loaded = load_model(info.name)
    assert loaded.fingerprint == info.record["fingerprint"]
    assert (loaded.weights, loaded.trained, loaded.notice) == ("bundled", True, None)


def test_the_bundled_networks_are_there():
    assert {info.name for info in RECORDED} == {"resnet20", "resnet56", "mobilenetv2_cifar"}


@pytest.mark.parametrize("name", [*(info.name for info in cifar_models()), *SMALL])
def test_a_loaded_network_is_ready_to_be_looked_at(name):
    loaded = load_model(name)
    tensors = [*loaded.module.parameters(), *loaded.module.buffers()]
    assert not any(module.training for module in loaded.module.modules())
    assert not any(tensor.requires_grad for tensor in tensors)
    assert {tensor.dtype for tensor in tensors} <= {torch.float32, torch.int64}
    assert {tensor.device.type for tensor in tensors} == {"cpu"}
    assert loaded.fingerprint == fingerprint(loaded.module.state_dict())
    side = 64 if loaded.info.dataset == "imagenet1k" else 32  # the nets pool: small images are quicker
    with torch.no_grad():
        assert loaded.module(torch.zeros(1, 3, side, side)).shape == (1, loaded.info.num_classes)


@pytest.mark.parametrize("name", ["resnet32", "shufflenet_v2_x0_5"])
def test_random_weights_are_seeded_announced_and_leave_the_generator_alone(name):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, second = load_model(name, "random"), load_model(name)
    assert torch.equal(torch.rand(3), expected)
    assert first.fingerprint == second.fingerprint
    assert (first.weights, first.trained) == ("random", False)
    assert "no accuracy can be measured" in first.notice


def test_random_weights_may_be_asked_for_where_trained_ones_exist():
    assert load_model("resnet20", "random").fingerprint != load_model("resnet20").fingerprint


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_a_checkpoint_in_the_home_folder_is_found(own_home, suffix):
    state = get_model_info("resnet32").build().state_dict()
    path = own_home / "weights" / f"resnet32{suffix}"
    path.parent.mkdir(parents=True)
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = load_model("resnet32")
    assert (loaded.weights, loaded.trained) == (f"file resnet32{suffix}", True)
    assert loaded.fingerprint == fingerprint(state) == load_model("resnet32", path).fingerprint


def test_a_missing_checkpoint_is_an_error_that_names_the_place_for_one(tmp_path):
    with pytest.raises(FpgmError, match=r"cannot read the checkpoint .*nowhere.pt"):
        load_model("resnet20", tmp_path / "nowhere.pt")
    with pytest.raises(FpgmError) as caught:
        load_model("resnet20", "DEFAULT")
    assert "FPGM_HOME/weights/resnet20.safetensors" in str(caught.value)


def downloaded_checkpoint(name):
    models = import_torchvision("torchvision.models")
    weights = models.get_model_weights(name).DEFAULT
    return weights, Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]


def put(path, content):
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def test_a_checkpoint_torchvision_already_downloaded_is_used():
    state = load_model("squeezenet1_1", "random").module.state_dict()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    put(downloaded_checkpoint("squeezenet1_1")[1], buffer.getvalue())
    loaded = load_model("squeezenet1_1")
    assert (loaded.weights, loaded.trained) == ("torchvision DEFAULT", True)
    assert loaded.fingerprint == fingerprint(state)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + bytes(100)])
def test_a_damaged_download_is_an_error_that_names_its_file(content):
    weights, path = downloaded_checkpoint("squeezenet1_1")
    put(path, content)
    with pytest.raises(FpgmError) as caught:
        load_model("squeezenet1_1")
    assert weights.url in str(caught.value)
    assert str(path) in str(caught.value)


def test_without_a_network_connection_the_error_names_the_file_and_its_place(monkeypatch, capsys):
    def offline(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    weights, path = downloaded_checkpoint("squeezenet1_1")
    with pytest.raises(FpgmError) as caught:
        load_model("squeezenet1_1", "DEFAULT")
    assert weights.url in str(caught.value)
    assert str(path) in str(caught.value)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("weights", ["IMAGENET1K_V9", "url", "__members__"])
def test_weights_torchvision_does_not_offer_are_refused_with_those_it_does(weights):
    with pytest.raises(FpgmError, match=r"squeezenet1_1 has no weights.*DEFAULT, IMAGENET1K_V1"):
        load_model("squeezenet1_1", weights)


def test_a_torchvision_network_has_its_plain_name_and_its_full_one():
    assert get_model_info("torchvision/resnet50") is get_model_info("resnet50")
    for name in ("torchvision/resnet20", "timm/resnet20", "other/resnet50", "torchvision/timm/resnet50"):
        with pytest.raises(FpgmError, match=f"unknown model '{name}'"):
            get_model_info(name)


def test_networks_are_listed_by_pattern():
    assert [info.name for info in list_models("resnet?0")] == ["resnet20", "resnet50"]
    assert [info.name for info in list_models("torchvision/resnet?0")] == ["resnet50"]
    assert list_models("nothing*") == ()
    assert list_models("*") == list_models()


def published_file(name, folder, weights="DEFAULT"):
    """A file called as torchvision publishes those weights, with random ones that have its auxiliary heads."""
    models = import_torchvision("torchvision.models")
    entry = models.get_model_weights(name)[weights]
    extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    path = folder / entry.url.rsplit("/", 1)[-1]
    torch.save(models.get_model(name, weights=None, **extra).state_dict(), path)
    return entry, path


@pytest.mark.parametrize("name", ["mobilenet_v2", "googlenet", "efficientnet_b1"])
def test_a_file_that_torchvision_publishes_brings_its_recipe(tmp_path, name):
    entry, path = published_file(name, tmp_path)
    loaded = load_model(name, path)
    side = {"mobilenet_v2": 224, "googlenet": 224, "efficientnet_b1": 240}[name]
    assert loaded.info.input_shape == (3, side, side)
    assert loaded.class_names == tuple(entry.meta["categories"])
    assert loaded.normalization == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert loaded.transforms.resize_size == entry.transforms().resize_size
    assert getattr(loaded.module, "transform_input", False) is (name == "googlenet")
    assert getattr(loaded.info.build(), "transform_input", False) is (name == "googlenet")
    renamed = path.rename(tmp_path / "mine.pth")
    plain = load_model(name, renamed)
    assert plain.fingerprint == loaded.fingerprint
    assert (plain.class_names, plain.normalization, plain.transforms) == (None, None, None)


def test_named_weights_bring_their_recipe(tmp_path):
    entry, path = published_file("squeezenet1_1", tmp_path)
    put(downloaded_checkpoint("squeezenet1_1")[1], path.read_bytes())
    for weights in ("DEFAULT", "IMAGENET1K_V1", "SqueezeNet1_1_Weights.IMAGENET1K_V1"):
        loaded = load_model("torchvision/squeezenet1_1", weights)
        assert (loaded.weights, loaded.trained) == (f"torchvision {weights}", True)
        assert loaded.class_names == tuple(entry.meta["categories"])
        assert loaded.info.input_shape == (3, 224, 224)


def test_a_downloaded_checkpoint_that_carries_code_is_refused_and_not_run(tmp_path, monkeypatch):
    """torchvision's cache is a folder like any other: what lies in it is not unpickled."""
    import torch

    from fpgm_core.runtime.torchvision_import import import_torchvision

    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = import_torchvision("torchvision.models").ResNet18_Weights.DEFAULT.url
    place = tmp_path / "hub" / "checkpoints" / url.rsplit("/", 1)[-1]
    place.parent.mkdir(parents=True)
    torch.save({"conv1.weight": Payload()}, place)
    with pytest.raises(FpgmError, match="place it at"):
        load_model("resnet18", "DEFAULT")
    assert not (tmp_path / "ran").exists()
