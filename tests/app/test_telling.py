"""What pages say of strangers' words and of errors: plain text, no places of this machine, no library's words."""

import ast
import logging
import os
from pathlib import Path

import pytest

import pages.ui
from fpgm_core import FpgmError
from fpgm_core.data import open_images
from fpgm_core.models import read_checkpoint
from fpgm_core.runtime.storage import home
from pages.ui.components.telling import LONGEST, plain, told, without_places

SOURCES = sorted(Path(next(iter(pages.ui.__path__))).rglob("*.py"))


def raised(build, *, cause=None):
    try:
        if cause is None:
            raise build()
        try:
            raise cause
        except type(cause) as error:
            raise build(error) from error
    except Exception as error:
        return error


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/home/someone/photos has no images; give another", "photos has no images; give another"),
        ("cannot read '/etc/shadow': it is a pipe", "cannot read 'shadow': it is a pipe"),
        ("no room in /a/b/c d/e; free space", "no room in c d/e; free space"),
        ("cannot write C:\\Users\\me\\plan.json: full", "cannot write plan.json: full"),
        ("timm/resnet50 and layer1/conv are names; 3 / 4 is a share", None),
        ("see https://example.org/a/b", None),
        ("<b>x</b> \\[y\\](z) a\\b", None),
        ("error:/etc/passwd", "error:passwd"),
        ("place it at FPGM_HOME/weights/resnet20.safetensors", None),
        ("lower --rate, or give 1/2", None),
    ],
)
def test_absolute_paths_are_their_last_parts(text, said):
    assert without_places(text) == (text if said is None else said)


def test_this_machines_folders_are_left_out_whatever_their_names(monkeypatch, tmp_path):
    monkeypatch.setenv("FPGM_HOME", str(tmp_path / "a home, of (sorts)"))
    assert without_places(f"{home()}/opened/x.safetensors is damaged") == "x.safetensors is damaged"


def test_an_error_of_ours_is_told_without_what_a_library_said():
    error = raised(
        lambda e: FpgmError(f"/tmp/q/x.npz cannot be read as an .npz ({e}); save it again"),
        cause=ValueError("Cannot load file containing pickled data at 0x7f"),
    )
    assert told(error) == "x.npz cannot be read as an .npz; save it again"
    error = raised(lambda e: FpgmError(f"cannot open the history: {e}; free it"), cause=OSError(13, "No entry", "/x/y"))
    assert told(error) == "cannot open the history; free it"


def test_our_own_words_stay_where_a_library_used_one_of_them():
    error = raised(
        lambda e: FpgmError("the archive has no 'images'; save it with images and labels"), cause=KeyError("images")
    )
    assert told(error) == "the archive has no 'images'; save it with images and labels"


def test_any_other_error_is_a_number_that_the_log_explains(caplog):
    with caplog.at_level(logging.ERROR):
        said = told(raised(lambda: RuntimeError("secret /etc/passwd")))
    assert "secret" not in said
    assert "passwd" not in said
    (record,) = caplog.records
    assert record.getMessage().split()[-1] in said
    assert "secret" in str(record.exc_info[1])


def test_what_the_library_says_of_hostile_files_names_no_place(tmp_path):
    said = []
    for index, content in enumerate((b"", b"PK\x03\x04", b"\x80\x05.", b"{" * 3000, os.urandom(3000))):
        for suffix, reader in ((".npz", open_images), (".pt", read_checkpoint), (".safetensors", read_checkpoint)):
            path = tmp_path / f"file{index}{suffix}"
            path.write_bytes(content)
            with pytest.raises(FpgmError) as error:
                reader(path)
            said.append(told(error.value))
    assert len(said) == 15
    assert [
        text for text in said if "/" in text.replace("train/", "").replace("and/or", "") and str(tmp_path) in text
    ] == []
    assert all(text.strip() for text in said)


def test_no_page_tells_an_error_but_by_the_one_function():
    """`str(error)`, an f-string of it, or its arguments, outside telling.py."""
    found = []
    for path in SOURCES:
        if path.name == "telling.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and node.name:
                found += [f"{path.name}:{use.lineno}" for use in _told_raw(node)]
    assert found == []


def _told_raw(handler):
    for node in ast.walk(handler):
        is_call = isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("str", "repr")
        inside = node.args if is_call else [node.value] if isinstance(node, ast.FormattedValue) else []
        if any(isinstance(part, ast.Name) and part.id == handler.name for part in inside):
            yield node


def test_a_text_is_one_line_of_bounded_length():
    assert "\n" not in plain("a\nb\r\n\u2028c")
    assert "\u202e" not in plain("gnp.\u202eexe")
    assert len(plain("x" * 10_000)) <= LONGEST
    assert plain("conv1 of 3 filters") == "conv1 of 3 filters"


def test_half_a_character_which_cannot_be_sent_to_a_browser_is_a_space():
    plain("a\ud800b\udfff").encode()
    assert plain("a\ud800b\udfff") == "a b"
