"""The lesson's words: languages are twins, every name that is asked for is there, and every string is used."""

import ast
import re
import string
import tomllib
from dataclasses import fields
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import pytest

import fpgm_core
from fpgm_core import FpgmError
from fpgm_core.evaluation import CONTESTED, QUESTIONS, VERDICTS
from fpgm_core.lesson import LANGUAGES, PLANES, STEPS, FilterControls, Words, words_of
from fpgm_core.lesson.markup import formulas
from fpgm_core.recovery import ladder
from pages.ui.panels.frame import PAGES

ROOT = Path(fpgm_core.__file__).parent.parent
SOURCES = [
    *sorted((ROOT / "fpgm_core" / "lesson").rglob("*.py")),
    *sorted((ROOT / "fpgm_core" / "figures" / "lesson").glob("*.py")),
    *sorted((ROOT / "pages" / "ui").rglob("*.py")),
]
BROWSER = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "pages" / "ui").rglob("*.js")))
ENGLISH = words_of("en")
OTHERS = [language for language in LANGUAGES if language != "en"]
# What stands in the braces of a name that is put together: "{step.name}.title", f"rung.{rung}".
CONTROLS = {name: [field.name for field in fields(step.controls) if field.metadata] for name, step in STEPS.items()}
STATES = {"provisional", "measuring", "exact"}  # of a Measurement
REGISTERED = {*STEPS, *PLANES, *ladder(), *CONTESTED, *QUESTIONS, *map(str, range(10))}


LATEX = re.compile(r"\$\$.*?\$\$", re.DOTALL)


def strings_of(language):
    """A language's strings by name, without formulas: LaTeX has braces and marks of its own."""
    strings = words_of(language).strings
    return {name: LATEX.sub("", text) for name, text in strings.items() if not name.endswith(".formula")}


def braces(text):
    """The placeholders of a string: name, format and conversion."""
    return sorted({(name, form, how) for _, name, form, how in string.Formatter().parse(text) if name is not None})


def keys(table, prefix=""):
    for key, value in table.items():
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_file_of_a_language_is_read_whole(language):
    file = resources.files("fpgm_core.lesson") / "languages" / f"{language}.toml"
    names = list(keys(tomllib.loads(file.read_text(encoding="utf-8"))))
    assert list(words_of(language).strings) == names
    assert len(set(names)) == len(names) > 200
    assert words_of(language).language == language


def test_a_file_for_every_language_and_none_beside():
    folder = resources.files("fpgm_core.lesson") / "languages"
    assert {path.name for path in folder.iterdir()} == {f"{language}.toml" for language in LANGUAGES}


@pytest.mark.parametrize("language", OTHERS)
def test_languages_have_the_same_names_in_the_same_order(language):
    assert list(words_of(language).strings) == list(ENGLISH.strings)


@pytest.mark.parametrize("language", OTHERS)
def test_languages_fill_the_same_braces(language):
    others = strings_of(language)
    assert {name: braces(text) for name, text in others.items()} == {
        name: braces(text) for name, text in strings_of("en").items()
    }


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_string_is_empty_or_has_space_around_it(language):
    for name, text in words_of(language).strings.items():
        assert text, name
        assert text == text.strip(), name
    for name, text in strings_of(language).items():
        assert all(field for field, *_ in braces(text)), f"{name} has braces without a name"


@pytest.mark.parametrize("language", LANGUAGES)
def test_marks_are_in_pairs(language):
    """**strong** and *emphasis* are all that the words know of Markdown; what is open stays open."""
    for name, text in strings_of(language).items():
        for line in text.splitlines():
            bare = re.sub(r"\*(\S(?:[^*]*\S)?)\*", r"\1", re.sub(r"\*\*(\S(?:[^*]*\S)?)\*\*", r"\1", line))
            assert "*" not in bare, name


@pytest.mark.parametrize("language", OTHERS)
def test_marks_are_the_same_in_every_language(language):
    for name, text in ENGLISH.strings.items():
        assert words_of(language).strings[name].count("**") == text.count("**"), name


def formulas_of(language):
    """Every line of LaTeX of a language, by the name of its string."""
    for name, text in words_of(language).strings.items():
        if name.endswith(".formula"):
            yield from ((name, line) for line in text.splitlines())
        yield from ((name, found.strip("$")) for found in LATEX.findall(text))


@pytest.mark.parametrize("language", LANGUAGES)
def test_formulas_are_latex_that_both_renderers_take(language):
    for name, line in formulas_of(language):
        found = ElementTree.fromstring(formulas(line))
        shown = "".join(found.itertext())
        assert "\\" not in shown, name
        assert "&" not in line, f"{name}: alignment is KaTeX's alone"
        assert line.count("{") == line.count("}"), name


@pytest.mark.parametrize("language", OTHERS)
def test_formulas_say_the_same_in_every_language(language):
    def symbols(lines):
        return [(name, re.sub(r"\\text\{[^{}]*\}", "", line)) for name, line in lines]

    others, english = symbols(formulas_of(language)), symbols(formulas_of("en"))
    assert [name for name, _ in others] == [name for name, _ in english]
    for (name, other), (_, line) in zip(others, english, strict=True):
        assert sorted(re.findall(r"\\\w+|\w", other)) == sorted(re.findall(r"\\\w+|\w", line)), name


def test_korean_says_what_a_norm_is_where_a_step_first_names_one():
    korean = words_of("ko")
    for step in STEPS:
        read = [korean(f"{step}.{part}") for part in ("title", "lead")]
        first = next((text[text.index("노름") :] for text in read if "노름" in text), "노름(norm)")
        assert first.startswith("노름(norm)"), step


def test_a_language_is_not_a_copy():
    same = [name for name, text in ENGLISH.strings.items() if words_of("ko").strings[name] == text]
    assert len(same) < 25, same  # "FPGM", "MACs", formulas and references


def test_a_language_that_is_not_there_is_refused():
    for language in ("de", "", "EN", "../en"):
        with pytest.raises(FpgmError, match="choose one of en, ko"):
            words_of(language)


def test_words_are_filled():
    words = Words("en", {"a.b": "{n:.1%} of {what}", "a.c": "plain", "ab.c": "other"})
    assert words("a.b", n=0.5, what="it") == "50.0% of it"
    assert words("a.c") == "plain"
    assert words.under("a") == {"b": "{n:.1%} of {what}", "c": "plain"}
    for name, figures in (("a.d", {}), ("a.b", {"n": 1})):
        with pytest.raises(KeyError):
            words(name, **figures)


def asked(tree):
    """The first argument of every call of `words` in a source."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("words", "_words"):
                yield node.args[0]


def constants(tree):
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def template(node):
    """A name that is put together, as an expression that matches what it can become."""
    return "".join(re.escape(part.value) if isinstance(part, ast.Constant) else r"(\w+)" for part in node.values)


def becomes(pattern, name, known):
    """Whether a name is one that a template becomes: each part is a word that the source, or a registry, has.

    Two parts are a step with one of its options or controls, or a question on replaceability with a verdict.
    """
    match = re.fullmatch(pattern, name)
    if match is None:
        return False
    if not match.groups():
        return True
    first, *rest = match.groups()
    if rest and first in QUESTIONS and rest[0] in VERDICTS:
        return True
    if rest:
        return first in STEPS and rest[0] in (*STEPS[first].options, *CONTROLS[first])
    if pattern.startswith("("):
        return first in STEPS
    return first in known


def names_of(path):
    """What a source asks for: names as they stand, and templates of names with the words that can fill them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    known = constants(tree) | REGISTERED
    for node in asked(tree):
        for part in ast.walk(node):
            if isinstance(part, ast.JoinedStr):
                yield template(part), known
    templates = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in templates and str(node.value) in ENGLISH.strings:
            yield re.escape(node.value), known


ASKED = {path: list(names_of(path)) for path in SOURCES}


def sections():
    """Prefixes that a source takes whole, with `under`, by their words."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "under":
                yield from (part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant))
                if isinstance(node.args[0], ast.Name):
                    yield from ("glossary", "references")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_name_that_is_written_out_exists(path):
    for node in asked(ast.parse(path.read_text(encoding="utf-8"))):
        options = [node.body, node.orelse] if isinstance(node, ast.IfExp) else [node]
        for option in options:
            if isinstance(option, ast.Constant):
                assert option.value in ENGLISH.strings
            elif isinstance(option, ast.JoinedStr):
                assert any(re.fullmatch(template(option), name) for name in ENGLISH.strings), ast.unparse(option)


@pytest.mark.parametrize("name", STEPS)
def test_every_step_has_its_words(name):
    wanted = ["title", "short", "lead", "formula", "do", *STEPS[name].options, *CONTROLS[name]]
    wanted += ["question"] * STEPS[name].asks + ["why"] * STEPS[name].explained
    wanted += ["layer", "filter"] * (STEPS[name].controls is FilterControls)
    assert [part for part in wanted if f"{name}.{part}" not in ENGLISH.strings] == []


def test_every_registered_choice_has_its_words():
    wanted = [f"rung.{rung}" for rung in ladder()] + [f"criterion.{name}" for name in CONTESTED]
    wanted += [f"plane.{name}" for name in (*PLANES, "own")]
    assert [name for name in wanted if name not in ENGLISH.strings] == []


PAGE_NAMES = {name.lower() for name in PAGES.values()}


def test_every_page_has_its_name_in_every_language():
    assert [name for name in PAGE_NAMES if f"frame.{name}" not in ENGLISH.strings] == []


def test_the_frame_says_nothing_but_words_of_a_language():
    """Labels, helps and titles of the shared frame are never written out there."""
    tree = ast.parse((ROOT / "pages" / "ui" / "panels" / "frame.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    said = [word.value for call in calls for word in call.keywords if word.arg in ("label", "help", "page_title")]
    assert said
    assert not [value for value in said if isinstance(value, (ast.Constant, ast.JoinedStr))]


def test_no_string_is_dead():
    pages = set().union(*(constants(ast.parse(path.read_text(encoding="utf-8"))) for path in SOURCES))

    def used(name):
        prefix, word = name.split(".")
        if prefix in ("glossary", "references"):
            return True
        if prefix in (
            "live",
            "picture",
            "frame",
        ):  # handed whole to bars, cards, picture and frame, which take them by words
            return word in pages | STATES | PAGE_NAMES or f"words.{word}" in BROWSER
        return any(becomes(pattern, name, known) for names in ASKED.values() for pattern, known in names)

    assert [name for name in ENGLISH.strings if not used(name)] == []


def test_sections_that_are_taken_whole():
    assert {"glossary", "references", "live", "picture", "frame"} <= set(sections())


def test_a_dead_string_would_be_found():
    for name in ("page.nobody", "plane.nobody", "figure.nobody", "norms.nobody", "criterion.nobody", "check.q"):
        assert not any(becomes(pattern, name, known) for names in ASKED.values() for pattern, known in names)
