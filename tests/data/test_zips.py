"""Zips of images: what is unpacked, what is left out, what is refused."""

import gc
import io
import stat
import struct
import tempfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from fpgm_core import FpgmError
from fpgm_core.data import Preprocessing, open_images, unpack_images
from fpgm_core.runtime.progress import run


def png(shade=0):
    content = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(content, "PNG")
    return content.getvalue()


def zipped(files, **options):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", **options) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def names_below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_zip_of_folders_opens_as_the_folder_does(tmp_path):
    files = {f"photos/{name}/{index}.png": png(index) for name in ("cat", "dog") for index in range(4)}
    folder = unpack_images(zipped(files), tmp_path)
    assert folder == tmp_path / "photos"
    splits = open_images(folder)
    assert splits.choose.class_names == ("cat", "dog")
    assert len(splits.split("all")) + len(splits.train) == 8


def test_a_zip_is_opened_as_such_and_leaves_nothing_behind(tmp_path, monkeypatch, own_home):
    """As `--data` takes it; what was decoded once is known again, since times are the zip's."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    places = [f"{part}/{name}/{index}.png" for part in ("val", "train") for name in "ab" for index in range(3)]
    (tmp_path / "mine.zip").write_bytes(zipped({place: png(number) for number, place in enumerate(places)}))
    first, again = open_images(tmp_path / "mine.zip"), open_images(tmp_path / "mine.zip")
    assert (first.notice, len(first.train), len(first.split("all"))) == (None, 6, 6)
    assert first.choose.identity == again.choose.identity
    images = run(first.choose.load_work(Preprocessing.usual((3, 8, 8))))
    assert images.pixels.shape == (3, 8, 8, 3)
    assert len(list((tmp_path / "temporary").iterdir())) == 2
    del first, again
    gc.collect()
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize(
    "name",
    ["../outside.png", "/etc/outside.png", "a/../../outside.png", "C:\\outside.png", "a/b/c/d/e/f/g/deep.png",
     "__MACOSX/cat/1.png", "cat/.hidden.png", "cat/readme.exe", "cat/"],
)  # fmt: skip
def test_what_belongs_elsewhere_is_left_out(tmp_path, name):
    inside = tmp_path / "inside"
    unpack_images(zipped({name: png(), "cat/1.png": png(), "dog/1.png": png()}), inside)
    assert names_below(tmp_path) == ["inside/cat/1.png", "inside/dog/1.png"]


def test_links_are_left_out(tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("cat/1.png", png())
        link = zipfile.ZipInfo("cat/2.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    unpack_images(content.getvalue(), tmp_path)
    assert names_below(tmp_path) == ["cat/1.png"]


def test_a_bomb_ends_at_the_limit(tmp_path):
    bomb = zipped({"cat/1.png": b"\0" * 5_000_000}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(FpgmError, match="unpacks to more than is read"):
        unpack_images(bomb, tmp_path, most_bytes=1_000_000)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 1_000_000


def test_too_many_files_are_refused_before_any_is_written(tmp_path):
    with pytest.raises(FpgmError, match="holds 12 images; at most 10"):
        unpack_images(zipped({f"cat/{index}.png": png() for index in range(12)}), tmp_path, most_files=10)
    assert names_below(tmp_path) == []


def encrypted():
    content = bytearray(zipped({"cat/1.png": png()}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = content.index(signature) + offset
        flags = struct.unpack_from("<H", content, place)[0]
        struct.pack_into("<H", content, place, flags | 1)
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b"PK\x03\x04" + b"\0" * 40, "damaged"),
        (zipped({"cat/1.png": png()})[:-30], "damaged"),
        (zipped({"notes.txt": b"none"}), "holds no images"),
        (zipped({"classes.txt": b"cat"}), "holds no images"),
        (encrypted(), "encrypted"),
    ],
    ids=["empty", "headless", "cut", "text", "classes", "encrypted"],
)
def test_what_cannot_be_read_is_refused_in_words(tmp_path, content, message):
    with pytest.raises(FpgmError, match=message):
        unpack_images(content, tmp_path)


def test_damage_inside_is_told(tmp_path):
    content = bytearray(zipped({"cat/1.png": png()}, compression=zipfile.ZIP_DEFLATED))
    content[50] ^= 0xFF
    with pytest.raises(FpgmError, match="damaged"):
        unpack_images(bytes(content), tmp_path)
