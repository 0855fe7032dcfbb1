"""A checkpoint is read without running anything, or refused in one clear line that changes nothing."""

import hashlib
import io
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from fpgm_core.errors import FpgmError
from fpgm_core.models import fingerprint, load_state, read_checkpoint


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


STATE = network().state_dict()


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


WRAPPED = {
    "plain": STATE,
    "under state_dict": {"state_dict": STATE, "epoch": 3},
    "under model": {"model": STATE},
    "under model_state_dict": {"model_state_dict": STATE, "optimizer_state_dict": {"lr": 0.1}},
    "twice nested": {"state_dict": {"model": STATE}},
    "of DataParallel": {f"module.{name}": tensor for name, tensor in STATE.items()},
    "nested and of DataParallel": {"state_dict": {f"module.{name}": tensor for name, tensor in STATE.items()}},
}


@pytest.mark.parametrize("content", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_pytorch_file_is_unwrapped(tmp_path, content, zipped):
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(saved(content, _use_new_zipfile_serialization=zipped))
    assert same(read_checkpoint(path), STATE)


def test_a_safetensors_file_is_read_and_its_hash_checked(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_file(STATE, path)
    assert same(read_checkpoint(path, hashlib.sha256(path.read_bytes()).hexdigest()), STATE)


def test_a_file_of_another_hash_is_refused(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_file(STATE, path)
    with pytest.raises(FpgmError, match=r"checkpoint.safetensors is damaged.*SHA-256.*reinstall"):
        read_checkpoint(path, "0" * 64)


class Malicious:
    """Unpickling it creates a file: the sign that code ran."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return open, (str(self.witness), "w")


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_code_in_a_pickle_never_runs(tmp_path, form):
    path, witness = tmp_path / "checkpoint.pt", tmp_path / "witness"
    content = {**STATE, "extra": Malicious(witness)}
    path.write_bytes(
        pickle.dumps(content) if form == "pickle" else saved(content, _use_new_zipfile_serialization=form == "zip")
    )
    with pytest.raises(FpgmError, match="cannot be read as plain weights; save only the state dict"):
        read_checkpoint(path)
    assert not witness.exists()
    pickle.loads(pickle.dumps(Malicious(witness))).close()
    assert witness.exists(), "the payload must be live, or this test proves nothing"


def without_its_directory(content):
    """A zip cut off shortly before its end: the tensors are there, the table of contents is not."""
    return content[: -zipfile.sizeEndCentDir - 1]


DAMAGED = {
    "empty.pt": b"",
    "text.pt": b"<html>404 not found</html>",
    "half.pt": saved(STATE)[: len(saved(STATE)) // 2],
    "almost.pt": without_its_directory(saved(STATE)),
    "almost whole.pt": saved(STATE)[:-10],
    **{f"legacy {cut}.pt": saved(STATE, _use_new_zipfile_serialization=False)[:cut] for cut in (10, 100, 200, 300)},
    "empty.safetensors": b"",
    "text.safetensors": b"<html>404 not found</html>",
    "half.safetensors": save(STATE)[: len(save(STATE)) // 2],
    "almost.safetensors": save(STATE)[:-1],
    "pytorch.safetensors": saved(STATE),
    "safetensors.pt": save(STATE),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused_by_name(tmp_path, name):
    (tmp_path / name).write_bytes(DAMAGED[name])
    with pytest.raises(FpgmError, match=name):
        read_checkpoint(tmp_path / name)


NOT_A_STATE_DICT = {
    "list": [torch.ones(1)],
    "tensor": torch.ones(2),
    "number": 3,
    "nothing": {},
    "numbers": {"epoch": 3},
    "unnamed": {0: torch.ones(1)},
}


@pytest.mark.parametrize("content", NOT_A_STATE_DICT.values(), ids=NOT_A_STATE_DICT)
def test_a_file_without_a_state_dict_is_refused(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(saved(content))
    with pytest.raises(FpgmError, match=r"holds no state dict; save model.state_dict\(\)"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["missing.pt", "missing.safetensors", "."])
def test_a_missing_file_is_refused_with_its_path(tmp_path, name):
    with pytest.raises(FpgmError, match=r"cannot read the checkpoint .*; (check the path|give a file)"):
        read_checkpoint(tmp_path / name)


def altered(name, value):
    return {**STATE, name: value}


def at(index, value):
    weight = STATE["0.weight"].clone()
    weight.view(-1)[index] = value
    return altered("0.weight", weight)


MISFITS = {
    "a shape": (altered("0.weight", torch.ones(4, 3, 1, 1)), r"0.weight has shape \(4, 3, 1, 1\), not \(4, 3, 3, 3\)"),
    "a missing name": ({k: v for k, v in STATE.items() if k != "0.bias"}, "missing 0.bias"),
    "an unexpected name": (altered("2.weight", torch.ones(1)), "unexpected 2.weight"),
    "another network": ({"a": torch.ones(1)}, "missing 0.bias; missing 0.weight; .* and 4 more"),
    "NaN": (at(0, float("nan")), "not finite in 0.weight"),
    "infinity, last": (at(-1, float("inf")), "not finite in 0.weight"),
}


@pytest.mark.parametrize(("state", "message"), MISFITS.values(), ids=MISFITS)
def test_weights_that_do_not_fit_are_refused_and_change_nothing(state, message):
    module = network()
    before = fingerprint(module.state_dict())
    with pytest.raises(FpgmError, match=f"^here.pt .*{message}"):
        load_state(module, state, "here.pt")
    assert fingerprint(module.state_dict()) == before


@pytest.mark.parametrize("counters", [True, False])
def test_weights_that_fit_are_copied_with_or_without_counters(counters):
    state = {name: tensor + 1 for name, tensor in STATE.items() if counters or "num_batches" not in name}
    module = network()
    load_state(module, state, "here.pt")
    own = module.state_dict()
    assert all(torch.equal(own[name], state[name]) for name in state if "num_batches" not in name)


def test_half_precision_weights_load_as_float32():
    module = network()
    load_state(module, {name: t.half() if t.is_floating_point() else t for name, t in STATE.items()}, "here.pt")
    assert module[0].weight.dtype == torch.float32
    assert torch.equal(module[0].weight, STATE["0.weight"].half().float())


def test_a_fingerprint_is_the_hash_of_names_dtypes_shapes_and_bytes():
    state = {"b": torch.tensor([1.0, -2.0]), "a": torch.tensor(3, dtype=torch.int64)}
    content = b"a|torch.int64|()|" + (3).to_bytes(8, "little")
    content += b"b|torch.float32|(2,)|" + bytes.fromhex("0000803f000000c0")
    assert fingerprint(state) == hashlib.sha256(content).hexdigest()


def test_a_fingerprint_ignores_order_layout_and_counters_only():
    weight = STATE["0.weight"]
    backwards = dict(reversed(STATE.items()))
    assert fingerprint(backwards) == fingerprint(STATE)
    assert fingerprint(altered("0.weight", weight.to(memory_format=torch.channels_last))) == fingerprint(STATE)
    assert fingerprint(altered("1.num_batches_tracked", torch.tensor(9))) == fingerprint(STATE)
    others = [
        altered("0.weight", weight.double()),
        altered("0.weight", weight.reshape(4, 27)),
        at(0, float(weight.view(-1)[0]) + 1e-6),
        {name.replace("0.bias", "0.bios"): tensor for name, tensor in STATE.items()},
    ]
    assert len({fingerprint(STATE), *map(fingerprint, others)}) == 5
