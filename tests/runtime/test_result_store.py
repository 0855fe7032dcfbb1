"""Kept results: what is read is what was written, or it is set aside and nothing is read."""

import hashlib
import json
import logging
import os
import random
import struct
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fpgm_core.errors import FpgmError
from fpgm_core.runtime.storage import KINDS, Kept, ResultStore

IDENTITY = {"format": 1, "network": "a" * 64, "layer": "conv1", "rates": [0.1, 0.2], "data": None}
VALUES = {"accuracy": 0.5, "names": ["a", "b"], "none": None}


@pytest.fixture
def store(own_home):
    return ResultStore("moments")


def kept():
    arrays = {"mean": torch.arange(6.0).reshape(2, 3), "hits": np.arange(5, dtype=np.uint8)}
    return Kept(VALUES, arrays)


def plain(result):
    """A result as values that compare."""
    return result.values, {name: (str(array.dtype), array.tolist()) for name, array in result.arrays.items()}


EXPECTED = (VALUES, {"mean": ("torch.float32", [[0, 1, 2], [3, 4, 5]]), "hits": ("torch.uint8", [0, 1, 2, 3, 4])})


def damaged(path):
    return path.with_name(f"{path.name}.damaged")


def test_what_is_written_is_read(store):
    assert store.read(IDENTITY, plain) is None
    assert store.write(IDENTITY, kept())
    assert store.read(IDENTITY, plain) == EXPECTED
    store.write(IDENTITY, Kept([1, 2]))
    assert store.read(IDENTITY, plain) == ([1, 2], {})


@pytest.mark.parametrize("change", [{"format": 2}, {"rates": [0.1]}, {"data": False}, {"format": True}, {"more": 0}])
def test_another_identity_is_another_result(store, change):
    store.write(IDENTITY, kept())
    assert store.read(IDENTITY | change, plain) is None
    assert store.read(dict(reversed(IDENTITY.items())), plain) == EXPECTED  # in any order


def test_kinds_are_told_apart_and_known(own_home):
    ResultStore("layouts").write(IDENTITY, kept())
    assert ResultStore("moments").read(IDENTITY, plain) is None
    with pytest.raises(ValueError, match="weights"):
        ResultStore("weights")


def test_every_single_flipped_byte_is_noticed(store, caplog):
    store.write(IDENTITY, kept())
    path = store.path(IDENTITY)
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :])
        assert store.read(IDENTITY, plain) is None, at
        assert not path.exists()
        assert damaged(path).exists()
        assert store.read(IDENTITY, plain) is None  # absent now, and nothing is said twice
    assert len(caplog.records) == len(content)
    assert store.write(IDENTITY, kept())
    assert store.read(IDENTITY, plain) == EXPECTED


def test_every_truncation_and_addition_is_noticed(store):
    store.write(IDENTITY, kept())
    path = store.path(IDENTITY)
    content = path.read_bytes()
    for changed in (*(content[:end] for end in range(0, len(content), 7)), content + b"\0", content * 2):
        path.write_bytes(changed)
        assert store.read(IDENTITY, plain) is None
        assert damaged(path).exists()


@given(data=st.data())
def test_any_edit_is_right_or_nothing(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FPGM_HOME", str(folder))
        store = ResultStore("moments")
        store.write(IDENTITY, kept())
        content = store.path(IDENTITY).read_bytes()
        begin = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(begin, len(content)))
        changed = content[:begin] + data.draw(st.binary(max_size=40)) + content[end:]
        store.path(IDENTITY).write_bytes(changed)
        assert store.read(IDENTITY, plain) == (EXPECTED if changed == content else None)


def sealed(body):
    """A file whose first line is right about whatever follows."""
    return f"fpgm-result 1 {hashlib.sha256(body).hexdigest()} {len(body)}\n".encode() + body


def line(values=VALUES, identity=IDENTITY):
    return json.dumps({"identity": identity, "values": values}).encode() + b"\n"


def tensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


FORGED = {
    "nothing": b"",
    "no JSON": b"\xff\xfe\n",
    "JSON of another shape": b"[1, 2]\n",
    "no values": json.dumps({"identity": IDENTITY}).encode() + b"\n",
    "of another identity": line(identity=IDENTITY | {"layer": "conv2"}),
    "endless depth": b"[" * 100_000 + b"\n",
    "depth inside": b'{"identity": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}\n",
    "a huge number": b'{"identity": ' + b"9" * 10_000 + b"}\n",
    "arrays that are none": line() + b"noise",
    "a header of 364 TiB": line() + struct.pack("<Q", 1 << 48) + b"{}",
    "a header that claims too much": line() + tensors(
        {"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    ),
    "offsets that overlap": line() + tensors(
        {name: {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]} for name in "ab"}, b"abcd"
    ),
    "a shape of other bytes": line() + tensors({"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 4]}}, b"abcd"),
    "no such dtype": line() + tensors({"x": {"dtype": "F7", "shape": [1], "data_offsets": [0, 4]}}, b"abcd"),
    "deep header": line() + tensors(b"[" * 50_000),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGED)
def test_lies_under_a_right_checksum_are_set_aside(store, name):
    store.write(IDENTITY, kept())
    path = store.path(IDENTITY)
    path.write_bytes(sealed(FORGED[name]))
    assert store.read(IDENTITY, plain) is None
    assert damaged(path).exists()


@pytest.mark.parametrize("first", [
    b"fpgm-result 1 " + b"0" * 64 + b" 99999999999999\n", b"fpgm-result 2 " + b"0" * 64 + b" 5\n12345",
    b"fpgm-result 1 " + b"0" * 64 + b" -5\n", b"fpgm-result 1 " + b"0" * 64, b"\n", b"x" * 100_000,
])  # fmt: skip
def test_first_lines_that_lie_are_set_aside(store, first):
    path = store.path(IDENTITY)
    path.parent.mkdir(parents=True)
    path.write_bytes(first)
    assert store.read(IDENTITY, plain) is None
    assert damaged(path).exists()


def test_a_sparse_giant_is_not_read(store):
    path = store.path(IDENTITY)
    path.parent.mkdir(parents=True)
    for begin in (b"", b"fpgm-result 1 " + b"0" * 64 + b" 1099511627683\n"):
        with path.open("wb") as file:
            file.write(begin)
            file.truncate(1 << 40)
        assert store.read(IDENTITY, plain) is None
        assert damaged(path).exists()


def test_what_is_no_file_is_set_aside_and_nothing_waits_for_it(store):
    path = store.path(IDENTITY)
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    assert store.read(IDENTITY, plain) is None
    path.symlink_to("/dev/zero")
    assert store.read(IDENTITY, plain) is None
    path.mkdir()
    damaged(path).unlink()
    assert store.read(IDENTITY, plain) is None
    assert damaged(path).is_dir()
    assert store.write(IDENTITY, kept())
    assert store.read(IDENTITY, plain) == EXPECTED


@pytest.mark.parametrize(
    "error", [KeyError("x"), ValueError(), TypeError(), IndexError(), RuntimeError(), FpgmError("no"), AttributeError(),
              ZeroDivisionError(), RecursionError()]
)  # fmt: skip
def test_what_its_reader_refuses_is_set_aside_and_told_once(store, caplog, error):
    store.write(IDENTITY, kept())

    def refuse(result):
        raise error

    assert store.read(IDENTITY, refuse) is None
    assert damaged(store.path(IDENTITY)).exists()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "moments/" in record.getMessage()
    assert str(store.path(IDENTITY).parent) not in record.getMessage()


@pytest.mark.parametrize("error", [MemoryError(), OSError(5, "Input/output error")])
def test_what_cannot_be_read_just_now_stays(store, error):
    store.write(IDENTITY, kept())

    def fail(result):
        raise error

    assert store.read(IDENTITY, fail) is None
    assert store.read(IDENTITY, plain) == EXPECTED


def test_a_mistake_of_the_program_is_not_hidden(store):
    store.write(IDENTITY, kept())
    with pytest.raises(KeyboardInterrupt):
        store.read(IDENTITY, lambda result: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(ValueError, match="JSON"):
        store.write(IDENTITY, Kept({"accuracy": float("nan")}))
    assert store.read(IDENTITY, plain) == EXPECTED


def size(home):
    return sum(path.stat().st_size for kind in KINDS for path in (home / kind).glob("*.kept*"))


def filled(store, name, kilobytes=20):
    identity = {"name": name}
    written = store.write(identity, Kept(None, {"x": torch.zeros(kilobytes << 10, dtype=torch.uint8)}))
    return store.path(identity), written


def aged(path, seconds):
    os.utime(path, (path.stat().st_mtime - seconds,) * 2)


def present(store, name):
    return store.read({"name": name}, plain) is not None


def test_the_longest_unused_go_first_of_all_kinds(own_home):
    moments, layouts = (ResultStore(kind, limit=100 << 10) for kind in ("moments", "layouts"))
    for age, (store, name) in enumerate([(moments, "a"), (layouts, "b"), (moments, "c"), (layouts, "d")]):
        aged(filled(store, name)[0], 1000 - age)
    assert present(moments, "a")  # used again
    filled(moments, "e")
    assert size(own_home) <= 100 << 10
    assert not present(layouts, "b")
    assert all(present(*entry) for entry in [(moments, "a"), (moments, "c"), (layouts, "d"), (moments, "e")])


def test_what_was_set_aside_goes_before_all_else(own_home):
    store = ResultStore("moments", limit=100 << 10)
    aged(filled(store, "old")[0], 1000)
    path, _ = filled(store, "broken")
    path.write_bytes(path.read_bytes()[:-1])
    assert not present(store, "broken")
    for name in "abc":
        filled(store, name)
    assert not damaged(path).exists()
    assert present(store, "old")


def test_what_a_killed_process_left_goes_and_what_another_writes_stays(own_home):
    store = ResultStore("moments", limit=100 << 10)
    path, _ = filled(store, "a")
    left, writing = (path.with_name(f".{path.name}.{name}") for name in ("left", "writing"))
    for unfinished in (left, writing):
        unfinished.write_bytes(bytes(90 << 10))
    aged(left, 5000)
    filled(store, "b")
    assert not left.exists()
    assert writing.exists()
    assert present(store, "a")


def test_what_alone_is_too_large_is_not_written(own_home):
    store = ResultStore("moments", limit=100 << 10)
    filled(store, "small")
    path, written = filled(store, "large", 101)
    assert not written
    assert not path.exists()
    assert present(store, "small")


def test_a_clock_that_goes_back_takes_nothing_just_written(own_home):
    store = ResultStore("moments", limit=50 << 10)
    for name in "ab":
        aged(filled(store, name)[0], -(10**6))  # from the future
    path, _ = filled(store, "now")
    assert path.exists()
    assert size(own_home) <= 50 << 10


def test_weights_and_checkpoints_are_never_removed(own_home):
    others = [own_home / "weights" / "resnet20.safetensors", own_home / "training" / "checkpoint", own_home / "x"]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(200 << 10))
        aged(path, 10**6)
    store = ResultStore("moments", limit=50 << 10)
    for name in "abcd":
        filled(store, name)
    assert all(path.stat().st_size == 200 << 10 for path in others)


def test_the_limit_is_the_environments(monkeypatch):
    monkeypatch.setenv("FPGM_HOME_BYTES", "3M")
    assert ResultStore("moments").limit == 3 << 20
    monkeypatch.delenv("FPGM_HOME_BYTES")
    assert ResultStore("moments").limit == 4 << 30


def test_readers_and_writers_at_once_see_whole_results(own_home):
    wrong = []

    def work(seed):
        draw, store = random.Random(seed), ResultStore("moments", limit=60 << 10)
        for _ in range(60):
            name = draw.choice("abcde")
            if draw.random() < 0.5:
                value = draw.randrange(256)
                store.write({"name": name}, Kept(value, {"x": torch.full((10 << 10,), value, dtype=torch.uint8)}))
            else:
                found = store.read({"name": name}, lambda result: (result.values, set(result.arrays["x"].tolist())))
                if found is not None and found[1] != {found[0]}:
                    wrong.append(found)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not list((own_home / "moments").glob("*.damaged"))
    assert size(own_home) <= 60 << 10
