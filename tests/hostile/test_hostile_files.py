"""Files from outside that are none, lie, or never end: each is refused in one clear line, quickly, in little memory.

The corpus is made here: every kind of file that a person may hand over, spoilt in every way that its kind can be.
"""

import io
import json
import os
import resource
import struct
import time
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save

from fpgm_core import FpgmError, Network, Plan, PrunedNetwork
from fpgm_core.data import open_images
from fpgm_core.models import read_checkpoint
from fpgm_core.runtime.files import check_file, open_npz, read_file

MOST_SECONDS, MOST_MEMORY = 5.0, 500 << 20


def npz(**arrays):
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


def torch_file(value):
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


def lying_npz(claimed):
    """An .npz whose array claims a shape that it does not have."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": claimed})
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("images.npy", header.getvalue() + b"\0" * 64)
        archive.writestr("labels.npy", header.getvalue() + b"\0" * 64)
    return content.getvalue()


def bomb():
    """A few kilobytes that unpack to gigabytes."""
    header = io.BytesIO()
    shape = (1 << 20, 32, 32, 3)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("images.npy", "w") as member:
        member.write(header.getvalue())
        for _ in range(96):
            member.write(b"\0" * (1 << 20))
    return content.getvalue()


def encrypted():
    content = bytearray(npz(images=np.zeros((4, 8, 8, 3), np.uint8), labels=np.zeros(4, int)))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.find(signature)
        while place >= 0:
            struct.pack_into("<H", content, place + offset, struct.unpack_from("<H", content, place + offset)[0] | 1)
            place = content.find(signature, place + 1)
    return bytes(content)


def safetensors_header(size, text=b"{}"):
    return struct.pack("<Q", size) + text


WHOLE = {
    "npz": npz(images=np.zeros((12, 32, 32, 3), np.uint8), labels=np.arange(12) % 10),
    "pt": torch_file({"conv1.weight": torch.zeros(16, 3, 3, 3)}),
    "safetensors": save({"conv1.weight": torch.zeros(16, 3, 3, 3)}),
    "json": Plan("resnet20", "0" * 64).to_json().encode(),
    "pruned": save({"mask/conv1": torch.ones(16)}, {"pruned_network": json.dumps({"format_version": 1})}),
}
CRAFTED = {
    "npz": [
        lying_npz((1 << 40, 1 << 10)), lying_npz((1 << 60,)), lying_npz((65,)), bomb(), encrypted(),
        npz(images=np.zeros((4, 32, 32, 3)), labels=np.zeros(4, int)),
        npz(images=np.zeros((4, 32, 32, 3), np.uint8), labels=np.array([0.0, 1.0, np.nan, 2.0])),
        npz(images=np.zeros((4, 32, 32, 3), np.uint8), labels=np.zeros(3, int)),
        npz(images=np.zeros((0, 32, 32, 3), np.uint8), labels=np.zeros(0, int)),
        npz(images=np.array([{}], object), labels=np.zeros(1, int)),
        npz(other=np.zeros(3)), npz(),
    ],
    "safetensors": [
        safetensors_header(1 << 62), safetensors_header(1 << 48), safetensors_header(0), safetensors_header(2),
        safetensors_header(100_000, b'{"a":' * 20_000),
        safetensors_header(60, b'{"a":{"dtype":"F32","shape":[99999999999],"data_offsets":[0,4]}}'),
        safetensors_header(63, b'{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}     '),
    ],
    "pt": [
        torch_file(torch.zeros(3).to_sparse()), torch_file([1, 2, 3]), torch_file({}), torch_file("text"),
        torch_file({"state_dict": {"a": np.zeros(3)}}), torch_file({"a": torch.empty(2, device="meta")}),
    ],
    "json": [
        b"[" * 100_000, b'{"a":' * 100_000, b"NaN", b"[]", b"{}", b"1e999", b'"\\ud800"', b"\xff\xfe", b"null",
        json.dumps({**json.loads(WHOLE["json"]), "rates": {"conv1": 1e400}}).encode(),
        json.dumps({**json.loads(WHOLE["json"]), "rates": ["conv1"]}).encode(),
        json.dumps({**json.loads(WHOLE["json"]), "rates": {"conv1": True}}).encode(),
        json.dumps({**json.loads(WHOLE["json"]), "locked_in": {"conv1": [10**30]}}).encode(),
        json.dumps({**json.loads(WHOLE["json"]), "model": None}).encode(),
    ],
    "pruned": [save({"a": torch.zeros(1)}), save({"a": torch.zeros(1)}, {"pruned_network": "[" * 50_000})],
}  # fmt: skip


def spoilt(kind):
    """A whole file cut short, with bytes changed, with others' beginnings, and the crafted ones."""
    whole, draw = WHOLE[kind], np.random.default_rng(len(kind))
    yield from CRAFTED[kind]
    yield from (b"", b"\0", b"\0" * 4096, b"PK\x03\x04", b"\x80\x05.", b"version https://git-lfs.github.com/spec/v1\n")
    yield from (whole[: int(len(whole) * share)] for share in np.linspace(0.02, 0.98, 24))
    yield from (other for name, other in WHOLE.items() if name != kind)
    for _ in range(48):
        changed = bytearray(whole)
        for place in draw.integers(0, len(whole), 1 + int(draw.integers(6))):
            changed[place] = int(draw.integers(256))
        yield bytes(changed)


def open_as(kind, path, network):
    if kind == "npz":
        splits = open_images(path)
        return [source.labels for source in (splits.choose, splits.sealed)]
    if kind == "json":
        plan = Plan.from_json(read_file(path))
        return network.cost(plan)
    if kind == "pruned":
        return PrunedNetwork.load(path, network)
    return read_checkpoint(path)


@pytest.fixture(scope="module")
def network():
    return Network.load("resnet20")


@pytest.mark.parametrize("kind", list(WHOLE))
def test_spoilt_files_are_refused_in_words_or_hold(kind, network, tmp_path):
    """None raises anything but FpgmError, takes long, or takes much memory. What bytes leave whole may open."""
    suffix = {"pruned": "safetensors"}.get(kind, kind)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count, refused, messages = 0, 0, []
    for content in spoilt(kind):
        path = tmp_path / f"file-{count}.{suffix}"
        path.write_bytes(content)
        count += 1
        begun = time.perf_counter()
        try:
            open_as(kind, path, network)
        except FpgmError as error:
            refused += 1
            messages.append(str(error))
        assert time.perf_counter() - begun < MOST_SECONDS, content[:80]
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) << 10 < MOST_MEMORY
    assert [message for message in messages if "\n" in message.strip()] == []
    assert count >= 80
    assert refused >= 30


@pytest.mark.parametrize("reader", [check_file, read_file, read_checkpoint, open_images])
def test_what_is_no_file_is_refused_without_being_opened(reader, tmp_path):
    pipe, device, endless = tmp_path / "pipe.npz", tmp_path / "device.npz", tmp_path / "endless.npz"
    os.mkfifo(pipe)
    device.symlink_to("/dev/null")
    endless.symlink_to("/dev/zero")
    for path in (pipe, device, endless, tmp_path / "absent.npz", tmp_path / ("x" * 5000), tmp_path / "a\0b"):
        begun = time.perf_counter()
        with pytest.raises(FpgmError):
            reader(path)
        assert time.perf_counter() - begun < 1


def test_a_sparse_file_is_refused_by_its_size(tmp_path, monkeypatch):
    path = tmp_path / "sparse.safetensors"
    with path.open("wb") as file:
        file.truncate(1 << 36)
    for reader in (read_file, read_checkpoint, open_images):
        with pytest.raises(FpgmError):
            reader(path)
    monkeypatch.setenv("FPGM_FILE_BYTES", "10")
    path.write_bytes(b"0" * 11)
    with pytest.raises(FpgmError, match="has 11 bytes, and at most 10 are read"):
        read_file(path)


@pytest.mark.parametrize("name", ["t{}", "p{}.conv1.weight", "layer{}.conv.weight"])
def test_a_checkpoint_of_any_number_of_names_is_refused_soon(name, tmp_path):
    path, begun = tmp_path / "many.safetensors", time.process_time()
    path.write_bytes(save({name.format(number): torch.zeros(1) for number in range(20_000)}))
    with pytest.raises(FpgmError, match=r"is for another network: missing bn1\.bias; "):
        Network.load("resnet20", path)
    assert time.process_time() - begun < 2 * MOST_SECONDS


def test_a_whole_archive_opens(tmp_path):
    path = tmp_path / "whole.npz"
    path.write_bytes(WHOLE["npz"])
    with open_npz(path) as arrays:
        assert arrays["images"].shape == (12, 32, 32, 3)
    with pytest.raises(FpgmError, match="take more than the 1,000 bytes"), open_npz(path, 1000):
        pass
