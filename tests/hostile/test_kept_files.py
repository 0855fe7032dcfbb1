"""Every kind of kept file, with bits flipped, edited, cut short and made giant: nothing wrong is ever read from one.

What results are kept by `ResultStore` (moments, layouts, sweeps, contests, losses) have tests of the store itself in
`runtime/test_result_store.py`: every single byte. Here each kind is read by what uses it.
"""

import os
import sqlite3
import time
from contextlib import suppress

import numpy as np
import pytest
import torch

from fpgm_core import FpgmError, ImageSet, Network, evaluate
from fpgm_core.criteria.layouts import known_layout
from fpgm_core.data import Preprocessing, load_images
from fpgm_core.evaluation import History
from fpgm_core.graph import weights_of
from fpgm_core.runtime.storage import KINDS, Kept, ResultStore
from fpgm_core.training.checkpoint import FILE, PREVIOUS, Checkpoint
from fpgm_core.training.run import Epoch
from pages.ui.session import opened

MOST_SECONDS = 5.0
FLIPS, EDITS = 24, 12


def spoilt(whole, seed):
    """A file with bits flipped, with runs of bytes replaced, cut short, with more behind it, of another length."""
    draw = np.random.default_rng(seed)
    for at in np.unique(np.linspace(0, len(whole) - 1, FLIPS).astype(int)):
        yield whole[:at] + bytes([whole[at] ^ (1 << int(draw.integers(8)))]) + whole[at + 1 :]
    for at in draw.integers(0, len(whole), EDITS):
        run = draw.integers(0, 256, int(draw.integers(1, 40)), np.uint8).tobytes()
        yield whole[:at] + run + whole[at + len(run) :]
    for digit, other in ((b"1", b"7"), (b'": 0', b'": 9'), (b"true", b"null"), (b"0.", b"9."), (b"[", b"{")):
        yield whole.replace(digit, other)
    yield from (whole[: len(whole) * share // 8] for share in range(8))
    yield whole + whole
    yield whole + b"\0"
    yield b"[" * 200_000
    yield b"\xff" * 4096


def holds(path, whole, contents, read, *, is_right):
    """Read every spoilt file: what comes is right, or nothing, or an error of one line. How many were read as whole."""
    found = 0
    for content in contents:
        path.write_bytes(content)
        begun = time.perf_counter()
        value = None
        with suppress(FpgmError):
            value = read()
        assert time.perf_counter() - begun < MOST_SECONDS
        if value is not None:
            assert is_right(value), content[:80]
            found += content != whole
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_results(kind, own_home, caplog):
    store, identity = ResultStore(kind), {"format": 1, "network": "a" * 64, "layer": "conv1", "rates": [0.1, 0.5]}
    values = {"points": [{"unit": "conv1", "rate": 0.5, "num_correct": 7, "is_new": True}], "name": "é"}
    arrays = {"mean": torch.linspace(0, 1, 40), "answers": torch.arange(9, dtype=torch.uint8)}
    store.write(identity, Kept(values, arrays))
    path = store.path(identity)
    whole = path.read_bytes()

    def read():
        return store.read(identity, lambda kept: (kept.values, {k: v.tolist() for k, v in kept.arrays.items()}))

    right = read()
    assert holds(path, whole, spoilt(whole, len(kind)), read, is_right=right.__eq__) == 0
    assert path.with_name(f"{path.name}.damaged").exists()
    assert not path.exists()
    said = len(caplog.records)
    assert read() is None
    assert len(caplog.records) == said, "told once"
    store.write(identity, Kept(values, arrays))
    assert read() == right, "made anew"


def test_layouts(own_home):
    weights, places = (
        weights_of(Network.load("resnet20").module, "conv1"),
        np.random.default_rng(0).normal(size=(17, 2)),
    )
    identity = {"format": 1, "fingerprint": "f" * 64, "layer": "conv1", "seed": 7}
    ResultStore("layouts").write(identity, Kept({}, {"places": torch.from_numpy(places.astype(np.float32))}))
    (path,) = (own_home / "layouts").iterdir()
    whole = path.read_bytes()

    def read():
        found = known_layout("f" * 64, "conv1", weights, 7)
        return None if found is None else found.points.tolist()

    right = read()
    assert right is not None
    assert holds(path, whole, spoilt(whole, 1), read, is_right=right.__eq__) == 0


def a_checkpoint(epoch):
    draw = torch.Generator().manual_seed(epoch)
    return Checkpoint(
        identity={"plan": {"model": "resnet20"}, "start": "loaded", "seed": 3},
        epochs=tuple(Epoch(1 + index, 1.5, 0.6, 0.05, 700, 1000, 0.125, 2.0) for index in range(epoch)),
        model={"conv1.weight": torch.randn(16, 3, 3, 3, generator=draw)},
        momenta={"conv1.weight": torch.randn(16, 3, 3, 3, generator=draw)},
        masks={"conv1": np.arange(16) % 3 > 0},
    )


def as_values(checkpoint):
    tensors = [*checkpoint.model.values(), *checkpoint.momenta.values()]
    return checkpoint.epochs, [tensor.tolist() for tensor in tensors], [m.tolist() for m in checkpoint.masks.values()]


def test_training_checkpoints(tmp_path):
    """One that cannot be trusted is refused, with the last good one named; nothing of it is trained on."""
    first, second = a_checkpoint(1), a_checkpoint(2)
    first.write(tmp_path)
    second.write(tmp_path)
    whole, told = (tmp_path / FILE).read_bytes(), []

    def read():
        try:
            found = Checkpoint.read(tmp_path, second.identity)
        except FpgmError as error:
            told.append(str(error))
            raise
        return None if found is None else as_values(found)

    right = as_values(second)
    assert holds(tmp_path / FILE, whole, spoilt(whole, 2), read, is_right=right.__eq__) <= 1  # a name nobody reads
    damaged = [line for line in told if "another run" not in line]
    assert len(damaged) > 40
    assert all(f"holds 1 epochs: move {PREVIOUS} into its place" in line for line in damaged)
    os.replace(tmp_path / PREVIOUS, tmp_path / FILE)
    assert read() == as_values(first)


@pytest.fixture(scope="module")
def two_plans(resnet20, tmp_path_factory):
    """A history of two plans: its file's bytes."""
    images, path = load_images("cifar10", "choose").first(60), tmp_path_factory.mktemp("home") / "history.sqlite"
    for rate in (0.2, 0.4):
        pruned = resnet20.prune(rate, coupling="inner")
        History(path).add(pruned, images, evaluate(pruned, images))
    return path.read_bytes()


@pytest.fixture
def history(own_home, two_plans):
    own_home.mkdir(parents=True, exist_ok=True)
    (own_home / "history.sqlite").write_bytes(two_plans)
    return own_home / "history.sqlite"


def as_rows(entries):
    return [(entry.plan, entry.method, entry.accuracy, entry.change, entry.macs, entry.answers) for entry in entries]


def test_the_history_file(history):
    right, whole = as_rows(History().entries()), history.read_bytes()

    def read():
        for tail in ("-wal", "-shm"):
            history.with_name(history.name + tail).unlink(missing_ok=True)
        return as_rows(History().entries())

    def is_right(rows):
        return all(row in right for row in rows)

    holds(history, whole, spoilt(whole, 3), read, is_right=is_right)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("num_correct", 59), ("num_both_correct", -3), ("num_images", 10**18), ("macs", 1), ("params", None),
        ("method", "repaired"), ("plan", "[" * 100_000), ("plan", "{}"), ("plan", b"\xff"), ("answers", b""),
        ("answers", None), ("images", "others"), ("at", "yesterday"), ("digest", "0" * 64),
        ("sum", "0" * 64), ("sum", ""), ("fingerprint", "1" * 64),
    ],
)  # fmt: skip
def test_an_entry_of_the_history_that_was_edited_is_set_aside_and_told_once(history, column, value):
    right = as_rows(History().entries())
    with sqlite3.connect(history) as data:
        data.execute("PRAGMA ignore_check_constraints = 1")
        try:
            data.execute(f"UPDATE measured SET {column} = ? WHERE id = 1", (value,))
        except sqlite3.IntegrityError:
            data.execute(f"UPDATE measured SET {column} = 'nothing' WHERE id = 1")
    data.close()
    reader = History()
    assert as_rows(reader.entries()) == right[:1]
    assert "1 of the history's entries" in reader.notice
    with pytest.raises(FpgmError, match="no entry 1"):
        History().entry(1)
    again = History()
    assert as_rows(again.entries()) == right[:1]
    assert again.notice is None
    with sqlite3.connect(history) as data:
        assert data.execute("SELECT count(*) FROM damaged").fetchone()[0] == 1
    data.close()


def test_what_people_say_of_an_entry_is_theirs_to_say(history):
    History().rename(1, "mine")
    History().pin(1)
    assert len(History().entries()) == 2
    assert History().entry(1).name == "mine"


def test_a_history_of_the_former_version_is_taken_over(history):
    right = as_rows(History().entries())
    with sqlite3.connect(history) as data:
        data.execute("ALTER TABLE measured DROP COLUMN sum")
        data.execute("DROP TABLE damaged")
        data.execute("CREATE TABLE claims (study TEXT, plan_key TEXT, at REAL)")
        data.execute("INSERT INTO claims VALUES ('study', 'key', 1.0)")
        data.execute("PRAGMA user_version = 1")
    data.close()
    reader = History()
    assert as_rows(reader.entries()) == right
    assert reader.notice is None
    with sqlite3.connect(history) as data:
        assert data.execute("PRAGMA user_version").fetchone()[0] == 3
        assert data.execute("SELECT name FROM sqlite_master WHERE name = 'claims'").fetchall() == []
    data.close()


def test_decoded_pictures(write_tree, own_home):
    root, plain = write_tree(count=3), Preprocessing(resize=16, crop=(16, 16), mean=(0.5,) * 3, std=(0.5,) * 3)

    def read():
        images = ImageSet.from_folder(root, preprocessing=plain)
        return images.pixels.tolist(), images.labels.tolist()

    right = read()
    (path,) = (own_home / "images").iterdir()
    whole = path.read_bytes()
    holds(path, whole, spoilt(whole, 4), read, is_right=right.__eq__)
    assert path.with_name(f"{path.name}.damaged").exists()
    assert path.read_bytes() == whole, "made anew"


def test_checkpoints_that_visitors_opened(own_home):
    network = Network.load("resnet20")
    opened.keep_checkpoint(network)
    (path,) = (own_home / "opened").iterdir()
    whole = path.read_bytes()
    contents = [content for index, content in enumerate(spoilt(whole, 5)) if index % 5 == 0]

    def read():
        opened.forget_networks()
        found = opened.opened_network("resnet20", network.fingerprint)
        return None if found is None else found.fingerprint

    holds(path, whole, contents, read, is_right=network.fingerprint.__eq__)
    assert path.with_name(f"{path.name}.damaged").exists()
    path.write_bytes(whole)
    assert read() == network.fingerprint
