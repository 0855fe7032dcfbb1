"""The language files: twins that are read whole, with the same placeholders and marks, and none a copy of another."""

import re
import tomllib

import pytest
from worded import FOLDERS, LANGUAGES, OTHERS, braces, keys, unformulated

from fpgm_core import CRITERIA, FpgmError
from fpgm_core.runtime.words import Words, read_words

# What the library itself says in English, as titles of records: only other languages have words for it.
LIBRARY = ("record.", "chart.", "phrase.")


def own(words):
    """The strings that both twins have."""
    return {name: text for name, text in words.strings.items() if not name.startswith(LIBRARY)}


in_every_folder = pytest.mark.parametrize("folder", FOLDERS.values(), ids=list(FOLDERS))
in_every_language = pytest.mark.parametrize("language", LANGUAGES)
in_every_other = pytest.mark.parametrize("language", OTHERS)


@in_every_folder
@in_every_language
def test_the_file_of_a_language_is_read_whole(folder, language):
    names = list(keys(tomllib.loads((folder / f"{language}.toml").read_text(encoding="utf-8"))))
    words = read_words(folder, language)
    assert list(words.strings) == names
    assert len(set(names)) == len(names) > 100
    assert words.language == language


@in_every_folder
def test_a_file_for_every_language_and_none_beside(folder):
    assert {path.name for path in folder.iterdir()} == {f"{language}.toml" for language in LANGUAGES}


def test_no_name_is_in_two_folders():
    lesson, pages = (set(read_words(folder, "en").strings) for folder in FOLDERS.values())
    assert not lesson & pages


@in_every_folder
@in_every_other
def test_languages_have_the_same_names_in_the_same_order(folder, language):
    assert list(own(read_words(folder, language))) == list(read_words(folder, "en").strings)


@in_every_folder
@in_every_other
def test_languages_fill_the_same_braces(folder, language):
    others = unformulated(Words(language, own(read_words(folder, language))))
    english = unformulated(read_words(folder, "en"))
    assert {name: braces(text) for name, text in others.items()} == {
        name: braces(text) for name, text in english.items()
    }


@in_every_folder
@in_every_language
def test_no_string_is_empty_or_has_space_around_it(folder, language):
    words = read_words(folder, language)
    for name, text in words.strings.items():
        assert text, name
        assert text == text.strip(), name
    for name, text in unformulated(words).items():
        assert all(field for field, *_ in braces(text)), f"{name} has braces without a name"


@in_every_folder
@in_every_language
def test_marks_are_in_pairs(folder, language):
    """**strong** and *emphasis* are all that the words know of Markdown; what is open stays open."""
    for name, text in unformulated(read_words(folder, language)).items():
        for line in text.splitlines():
            bare = re.sub(r"\*(\S(?:[^*]*\S)?)\*", r"\1", re.sub(r"\*\*(\S(?:[^*]*\S)?)\*\*", r"\1", line))
            assert "*" not in bare, name


@in_every_folder
@in_every_other
def test_marks_are_the_same_in_every_language(folder, language):
    others = read_words(folder, language)
    for name, text in read_words(folder, "en").strings.items():
        assert others(name).count("**") == text.count("**"), name


@in_every_folder
@in_every_other
def test_a_language_is_not_a_copy(folder, language):
    others = read_words(folder, language)
    same = [name for name, text in read_words(folder, "en").strings.items() if others(name) == text]
    assert len(same) < 25, same  # "FPGM", "MACs", formulas and references


@in_every_folder
def test_a_language_that_is_not_there_is_refused(folder):
    for language in ("de", "", "EN", "../en"):
        with pytest.raises(FpgmError, match="choose one of en, ko"):
            read_words(folder, language)


def test_words_are_filled():
    words = Words("en", {"a.b": "{n:.1%} of {what}", "a.c": "plain", "ab.c": "other"})
    assert words("a.b", n=0.5, what="it") == "50.0% of it"
    assert words("a.c") == "plain"
    assert words.under("a") == {"b": "{n:.1%} of {what}", "c": "plain"}
    for name, figures in (("a.d", {}), ("a.b", {"n": 1})):
        with pytest.raises(KeyError):
            words(name, **figures)


def test_what_the_library_says_is_found_by_its_english():
    words = Words("ko", {"phrase.{n} of {total} images": "{total}장 중 {n}장", "phrase.merging (now)": "병합"})
    assert words.phrase("12 of 3,000 images") == "3,000장 중 12장"
    assert words.phrase("merging (now)") == "병합"
    assert words.phrase("12 of 3,000 imagesX") == "12 of 3,000 imagesX", "none: it stays English"


def test_records_are_called_by_their_own_names_unless_a_language_has_others():
    words = Words("ko", {"record.Criterion.fpgm.summary": "거리"})
    assert words.of(CRITERIA["fpgm"], "summary") == "거리"
    assert words.of(CRITERIA["fpgm"]) == CRITERIA["fpgm"].title


def test_two_rooms_words_are_one():
    both = Words("en", {"a.b": "one"}) | Words("en", {"c.d": "two"})
    assert both == Words("en", {"a.b": "one", "c.d": "two"})
