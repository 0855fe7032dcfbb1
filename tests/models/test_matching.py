"""Whatever a training script called the tensors, the right ones are found; or the message says what differs."""

import argparse
import pathlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from fpgm_core.errors import FpgmError
from fpgm_core.models import fingerprint, get_model_info, load_model, load_state
from fpgm_core.models.matching import Mismatch, match_names
from fpgm_core.models.state_dicts import multiplied_out


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(3)
    return get_model_info("resnet20").build().state_dict()


def prefixed(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def renamed(state, *pairs):
    names = {}
    for name in state:
        new = name
        for old, by in pairs:
            new = new.replace(old, by)
        names[new] = state[name]
    return names


def other(state):
    return {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in state.items()}


OFFICIAL = (
    ("layer", "stage_"), (".conv1.", ".conv_a."), (".conv2.", ".conv_b."), (".bn1.", ".bn_a."), (".bn2.", ".bn_b."),
    ("fc.", "classifier."),
)  # fmt: skip
FORMS = {
    **{
        f"under {prefix}": lambda state, prefix=prefix: prefixed(prefix, state)
        for prefix in (
            "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.", "backbone.",
            "module.model.", "model.module._orig_mod.", "_forward_module.model.", "a.very.long.way.down.",
        )
    },
    **{
        f"in {place}": lambda state, place=place: {place: state, "epoch": 3, "optimizer": {"state": {0: {}}}}
        for place in (
            "state_dict", "model", "model_state_dict", "net", "ema", "state_dict_ema", "model_ema", "params", "weights",
            "teacher",
        )
    },
    "in several": lambda state: {"model": {"state_dict": prefixed("module.", state)}},
    "averaged": lambda state: {"n_averaged": torch.tensor(7)} | prefixed("module.", state),
    "of thop": lambda state: (
        state | {f"{name[:-7]}.total_ops": torch.zeros(1) for name in state} | {"total_params": torch.ones(1)}
    ),
    "compiled inside": lambda state: renamed(state, ("layer1.", "layer1._orig_mod."), ("fc.", "fc.module.")),
    "of FSDP": lambda state: renamed(state, (".0.conv1.", ".0._fsdp_wrapped_module.conv1.")),
    "a backbone and a head": lambda state: {
        ("head." if name.startswith("fc.") else "backbone.") + name: tensor for name, tensor in state.items()
    },
    "Lightning": lambda state: {
        "state_dict": prefixed("model.", state) | {"criterion.weight": torch.ones(10), "accuracy.total": torch.ones(1)},
        "hyper_parameters": {"lr": 0.1},
        "pytorch-lightning_version": "2.0",
    },
    "with plain data": lambda state: {
        "state_dict": state,
        "args": argparse.Namespace(lr=0.1, where=pathlib.Path("a/b")),
        "best": np.float64(91.2),
    },
    "flat beside numbers": lambda state: {**state, "epoch": 3, "name": "resnet20"},
    "without counters": lambda state: {name: t for name, t in state.items() if "num_batches" not in name},
    "as parameters": lambda state: {
        name: nn.Parameter(t) if t.is_floating_point() else t for name, t in state.items()
    },
    "averaged beside another": lambda state: {"model": other(state), "model_ema": prefixed("module.", state)},
    "averaged inside another": lambda state: {
        "state_dict": prefixed("model.", other(state)) | prefixed("ema_model.module.", state)
    },
    "a teacher that is another network": lambda state: {
        "state_dict": prefixed("student.", state)
        | prefixed("teacher.", get_model_info("resnet32").build().state_dict())
    },
    "in a tuple": lambda state: (3, {"state_dict": state}),
    "behind a normalisation": lambda state: prefixed("1.", state) | {"0.mean": torch.zeros(3), "0.std": torch.ones(3)},
    "parallel inside": lambda state: renamed(state, ("layer1.", "layer1.module.")),
    "linear for fc": lambda state: renamed(state, ("fc.", "linear.")),
    "the official code's names": lambda state: renamed(state, *OFFICIAL),
    "in double precision": lambda state: {
        name: t.double() if t.is_floating_point() else t for name, t in state.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_same_weights_are_found_in_every_form(tmp_path, state, form):
    torch.save(form(state), tmp_path / "checkpoint.pth")
    assert load_model("resnet20", tmp_path / "checkpoint.pth").fingerprint == fingerprint(state)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "backbone."])
def test_safetensors_are_read_in_the_same_forms(tmp_path, state, prefix):
    save_file(prefixed(prefix, state), tmp_path / "checkpoint.safetensors")
    assert load_model("resnet20", tmp_path / "checkpoint.safetensors").fingerprint == fingerprint(state)


def test_safetensors_sort_names_so_that_shapes_alone_say_which_is_which(tmp_path, state):
    save_file(renamed(state, ("fc.", "linear.")), tmp_path / "one.safetensors")
    assert load_model("resnet20", tmp_path / "one.safetensors").fingerprint == fingerprint(state)
    save_file(renamed(state, *OFFICIAL), tmp_path / "all.safetensors")
    with pytest.raises(FpgmError, match="is for another network"):
        load_model("resnet20", tmp_path / "all.safetensors")


def test_what_was_matched_by_order_is_said(tmp_path, state):
    torch.save(renamed(state, *OFFICIAL), tmp_path / "official.pth")
    loaded = load_model("resnet20", tmp_path / "official.pth")
    assert "official.pth: its names are not the network's" in loaded.notice
    assert "by order and shape" in loaded.notice
    torch.save(prefixed("1.", state) | {"0.mean": torch.zeros(3), "0.std": torch.ones(3)}, tmp_path / "more.pth")
    loaded = load_model("resnet20", tmp_path / "more.pth")
    assert loaded.notice == "more.pth: it holds tensors of something else, which are left out: 0.mean, 0.std"
    assert loaded.weights == "file more.pth (1)"
    torch.save({"state_dict_ema": prefixed("model.", state)}, tmp_path / "plain.pth")
    loaded = load_model("resnet20", tmp_path / "plain.pth")
    assert (loaded.notice, loaded.weights) == (None, "file plain.pth (state_dict_ema, model)")


def test_an_order_that_was_sorted_is_not_believed():
    """conv10 stands before conv2 in a sorted file: their shapes are equal, and swapping them would go unnoticed."""
    own = nn.ModuleDict({f"c{index}": nn.Conv2d(4, 4, 3, bias=False) for index in range(12)}).state_dict()
    wrong = {f"conv{name[1:]}": tensor for name, tensor in sorted(own.items())}
    with pytest.raises(Mismatch):
        match_names(wrong, own)
    right = {f"conv{name[1:]}": tensor for name, tensor in own.items()}
    right = {"stem.weight" if name == "conv0.weight" else name: tensor for name, tensor in right.items()}
    assert match_names(right, own).names["c11.weight"] == "conv11.weight"


def test_names_in_common_that_mean_other_layers_are_not_trusted():
    """A file that numbers from 0 what the network numbers from 1 has bn1 in common with it, and means another."""

    def norms(*names):
        return nn.ModuleDict({name: nn.BatchNorm2d(4) for name in names}).state_dict()

    match = match_names(norms("bn0", "bn1", "bn2"), norms("bn1", "bn2", "bn3"))
    assert match.names["bn1.weight"] == "bn0.weight"
    assert match.names["bn3.weight"] == "bn2.weight"
    shuffled = dict(sorted(norms("bn0", "bn1", "bn2").items()))
    with pytest.raises(Mismatch):
        match_names(shuffled, norms("bn1", "bn2", "bn3"))


@pytest.mark.parametrize(("name", "classes"), [("resnet20", 100), ("mobilenetv2_cifar", 3), ("squeezenet1_1", 7)])
def test_another_number_of_classes_is_taken_from_the_classifier(tmp_path, name, classes):
    state = get_model_info(name).build(num_classes=classes).state_dict()
    torch.save({"state_dict": prefixed("module.", state)}, tmp_path / "mine.pth")
    loaded = load_model(name, tmp_path / "mine.pth")
    assert loaded.fingerprint == fingerprint(state)
    assert (loaded.info.num_classes, loaded.info.dataset, loaded.class_names) == (classes, "", None)
    assert loaded.module(torch.zeros(1, 3, 64, 64)).shape == (1, classes)
    assert loaded.info.build().state_dict().keys() == state.keys()
    assert get_model_info(name).num_classes != classes


def test_other_classes_under_other_names(tmp_path):
    state = renamed(get_model_info("resnet20").build(num_classes=100).state_dict(), *OFFICIAL)
    torch.save(state, tmp_path / "mine.pth")
    assert load_model("resnet20", tmp_path / "mine.pth").info.num_classes == 100


def test_two_networks_that_fit_are_refused_by_name(tmp_path, state):
    torch.save(prefixed("left.", state) | prefixed("right.", other(state)), tmp_path / "two.pth")
    with pytest.raises(FpgmError, match=r"two.pth holds two networks that fit, left and right; save the state dict"):
        load_model("resnet20", tmp_path / "two.pth")


def without(name):
    return lambda state: {other: tensor for other, tensor in state.items() if other != name}


def changed(name, change):
    return lambda state: {**state, name: change(state[name])}


EXPLAINED = {
    "a missing one": (without("bn1.bias"), r"missing bn1.bias; 96 of 97 tensors fit; open the network"),
    "a renamed one and a missing one": (
        lambda state: without("bn1.bias")(renamed(state, ("fc.", "linear."))),
        r"missing bn1.bias.*missing fc.bias \(it has linear.bias of the same shape \(10,\)\)",
    ),
    "shapes": (
        lambda state: {**renamed(state, ("fc.", "fc2.")), "fc2.weight": torch.zeros(10, 32)},
        r"missing fc.weight \(10, 64\) \(the nearest it has is fc2.weight \(10, 32\)\)",
    ),
    "pruned already": (
        changed("layer1.0.conv1.weight", lambda t: t[:10]),
        r"layer1.0.conv1.weight has shape \(10, 16, 3, 3\), not \(16, 16, 3, 3\); .* pruned already, .*from_module",
    ),
    "another depth": (lambda state: get_model_info("resnet32").build().state_dict(), "open resnet32, whose tensors"),
    "negative variances": (changed("bn1.running_var", lambda t: -t), "negative variances in bn1.running_var"),
    "NaN": (changed("bn1.running_var", lambda t: t * float("nan")), "not finite in bn1.running_var"),
    "too large for float32": (changed("fc.bias", lambda t: t.double() + 1e300), "not finite in fc.bias"),
    "int8": (changed("fc.weight", lambda t: (100 * t).to(torch.int8)), r"whole numbers \(int8\) in fc.weight"),
    "bool": (changed("fc.weight", lambda t: t > 0), r"whole numbers \(bool\) in fc.weight"),
    "float8": (changed("fc.weight", lambda t: t.to(torch.float8_e4m3fn)), r"eight-bit numbers \(float8_e4m3fn\) in fc"),
    "complex": (changed("fc.weight", lambda t: t.to(torch.complex64)), r"complex numbers \(complex64\) in fc.weight"),
    "sparse": (changed("fc.weight", lambda t: t.to_sparse()), r"sparse or nested tensor \(float32\) in fc.weight"),
    "meta": (changed("fc.weight", lambda t: t.to("meta")), r"no values at all \(float32\) in fc.weight"),
    "quantised": (
        changed("fc.weight", lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)),
        r"quantised values \(qint8\) in fc.weight",
    ),
    "NumPy arrays": (
        lambda state: {name: tensor.numpy() for name, tensor in state.items()},
        "its values are NumPy arrays, not tensors; save",
    ),
    "a module": (lambda state: nn.Linear(2, 2), r"beside weights it holds torch.nn.modules.linear.Linear, which"),
}


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor.*")
@pytest.mark.parametrize(("change", "message"), EXPLAINED.values(), ids=EXPLAINED)
def test_what_cannot_be_is_refused_by_name(tmp_path, state, change, message):
    torch.save(change(state), tmp_path / "mine.pth")
    with pytest.raises(FpgmError, match=rf"mine\.pth .*{message}"):
        load_model("resnet20", tmp_path / "mine.pth")


def test_a_module_in_the_old_format_is_named_too(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(FpgmError, match=r"it holds torch.nn.modules.linear.Linear, which"):
        load_model("resnet20", tmp_path / "old.pth")


def test_an_integer_for_a_float_changes_nothing(state):
    module = get_model_info("resnet20").build()
    before = fingerprint(module.state_dict())
    with pytest.raises(FpgmError, match=r"^it holds whole numbers"):
        load_state(module, {**state, "fc.bias": torch.zeros(10, dtype=torch.int64)}, "it")
    assert fingerprint(module.state_dict()) == before


OTHER_FILES = {
    "a.pt": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    "b.safetensors": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    "c.pth": (b"<!DOCTYPE html><html>404</html>", "it is a web page"),
}


@pytest.mark.parametrize("name", OTHER_FILES)
def test_what_is_no_checkpoint_is_called_what_it_is(tmp_path, name):
    content, message = OTHER_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FpgmError, match=message):
        load_model("resnet20", tmp_path / name)


def test_programs_and_misnamed_files_are_called_what_they_are(tmp_path, state):
    module = nn.Conv2d(3, 4, 3).eval()
    torch.export.save(torch.export.export(module, (torch.zeros(1, 3, 8, 8),)), tmp_path / "a.pt2")
    torch.save(state, tmp_path / "b.safetensors")
    save_file(state, tmp_path / "c.pt")
    save_file(state, tmp_path / "d.safetensors")
    (tmp_path / "d.safetensors").write_bytes((tmp_path / "d.safetensors").read_bytes()[:-9])
    messages = {
        "a.pt2": r"torch.export program: load it in Python, and give it to Network.from_module",
        "b.safetensors": r"it is a PyTorch file: name it .pt",
        "c.pt": r"rename it to end in .safetensors",
        "d.safetensors": r"it is cut short",
    }
    for name, message in messages.items():
        with pytest.raises(FpgmError, match=message):
            load_model("resnet20", tmp_path / name)


REPARAMETRISED = {
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.3),
    "pruned twice": lambda layer: prune.ln_structured(
        prune.random_unstructured(layer, "bias", 0.5), "weight", 0.5, 2, 0
    ),
    "weight_norm": weight_norm,
    "weight_norm over all": lambda layer: weight_norm(layer, dim=1),
    "spectral_norm": spectral_norm,
    "weight_norm, parametrised": parametrizations.weight_norm,
    "spectral_norm, parametrised": parametrizations.spectral_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize("layer", [lambda: nn.Conv2d(3, 4, 3), lambda: nn.ConvTranspose2d(3, 4, 3)], ids=["", "T"])
@pytest.mark.parametrize("change", REPARAMETRISED.values(), ids=REPARAMETRISED)
def test_parts_of_weights_are_multiplied_out(change, layer):
    torch.manual_seed(0)
    module = nn.Sequential(nn.BatchNorm2d(3), layer(), nn.Conv2d(4, 2, 1))
    change(module[1])
    with torch.no_grad():
        module(torch.randn(2, 3, 8, 8))
        expected = module.eval()(image := torch.randn(2, 3, 8, 8))
    plain = nn.Sequential(nn.BatchNorm2d(3), layer(), nn.Conv2d(4, 2, 1)).eval()
    state = multiplied_out(module.state_dict())
    assert [name.rpartition(".")[0] for name in state] == sorted(name.rpartition(".")[0] for name in state)
    plain.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(plain(image), expected)


def test_what_only_looks_like_a_part_stays():
    state = {"a.weight_g": torch.ones(3), "a.weight_v": torch.ones(5, 2), "b.weight_orig": torch.ones(2)}
    assert multiplied_out(state) == state
