"""The lesson's words: languages are twins, every name that is asked for is there, and every string is used."""

import re
from dataclasses import fields
from xml.etree import ElementTree

import pytest
from worded import LATEX, OTHERS, ROOT, names_of, unknown_names

from fpgm_core.evaluation import CONTESTED, QUESTIONS, VERDICTS
from fpgm_core.lesson import LANGUAGES, PLANES, STEPS, FilterControls, words_of
from fpgm_core.lesson.markup import formulas
from fpgm_core.recovery import ladder

OWN = [
    *sorted((ROOT / "fpgm_core" / "lesson").rglob("*.py")),
    *sorted((ROOT / "fpgm_core" / "figures" / "lesson").glob("*.py")),
]
SOURCES = [*OWN, *sorted((ROOT / "pages" / "ui").rglob("*.py"))]
ENGLISH = words_of("en")
# What stands in the braces of a name that is put together: "{step.name}.title", f"rung.{rung}".
CONTROLS = {name: [field.name for field in fields(step.controls) if field.metadata] for name, step in STEPS.items()}
REGISTERED = {*STEPS, *PLANES, *ladder(), *CONTESTED, *QUESTIONS, *map(str, range(10))}


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


ASKED = {path: list(names_of(path, ENGLISH.strings, REGISTERED)) for path in SOURCES}


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_name_that_is_written_out_exists(path):
    assert unknown_names(path, ENGLISH.strings) == []


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


WHOLE = {"glossary", "references"}  # sections that a source takes whole, by a name in a variable


def test_no_string_is_dead():
    def used(name):
        if name.split(".")[0] in WHOLE:
            return True
        return any(becomes(pattern, name, known) for names in ASKED.values() for pattern, known in names)

    assert [name for name in ENGLISH.strings if not used(name)] == []


def test_a_dead_string_would_be_found():
    for name in ("page.nobody", "plane.nobody", "figure.nobody", "norms.nobody", "criterion.nobody", "check.q"):
        assert not any(becomes(pattern, name, known) for names in ASKED.values() for pattern, known in names)
