"""The pages' words: every name that is asked for is there, every string is used, in the pages or in the browser."""

import ast
import re

import pytest
from worded import (
    FOLDERS,
    OTHERS,
    ROOT,
    drawn_texts,
    messages,
    names_of,
    parsed,
    sections,
    unknown_names,
)

from fpgm_core import COUPLINGS, CRITERIA
from fpgm_core.allocation import ALLOCATORS, COSTS
from fpgm_core.export import ARTEFACTS
from fpgm_core.figures import LABELS
from fpgm_core.pruning import PRESETS
from fpgm_core.recovery import RECOVERY_METHODS
from fpgm_core.runtime.words import read_words
from fpgm_core.timing import FASTER, RUNTIMES, SLOWER, VERDICTS, speed_told
from fpgm_core.training import SCHEDULES
from pages.ui.panels.frame import PAGES
from pages.ui.session.language import words_of

SOURCES = [ROOT / "app.py", *sorted((ROOT / "pages").rglob("*.py"))]
SCRIPTS = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "pages" / "ui").rglob("*.js")))
OWN, ALL = read_words(FOLDERS["pages"], "en"), words_of("en")
# What stands in the braces of a name that is put together: pages, states of a measurement, verdicts on a speed.
REGISTERED = {*(page.lower() for page in PAGES.values()), "provisional", "exact", *VERDICTS}
RECORDS = [
    record
    for registry in (CRITERIA, COUPLINGS, RECOVERY_METHODS, PRESETS, SCHEDULES, ARTEFACTS, RUNTIMES, COSTS, ALLOCATORS)
    for record in registry.values()
]
# Where messages are told by their English; the command line speaks English alone.
LIBRARY = [
    path
    for path in sorted((ROOT / "fpgm_core").rglob("*.py"))
    if not {"cli", "architectures", "bench.py"} & set(path.relative_to(ROOT).parts)
]
SENT = {"live", "picture"}  # sections that the browser gets whole: its scripts take them by words


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_name_that_is_written_out_exists(path):
    assert unknown_names(path, ALL.strings) == []


def is_used(name, asked):
    section, _, word = name.partition(".")
    if section in SENT and re.search(rf"words\.{word}\b", SCRIPTS):
        return True
    for pattern, known in asked:
        match = re.fullmatch(pattern, name)
        if match and all(part in known for part in match.groups()):
            return True
    return False


ASKED = [found for path in SOURCES for found in names_of(path, ALL.strings, REGISTERED)]


def test_no_string_is_dead():
    assert [name for name in OWN.strings if not is_used(name, ASKED)] == []


def test_a_dead_string_would_be_found():
    assert not [name for name in ("live.nobody", "frame.nobody", "picture.nobody") if is_used(name, ASKED)]


def test_what_the_browser_gets_whole_is_taken_whole():
    assert set(sections(SOURCES)) >= SENT


def test_every_page_has_its_name():
    assert [page for page in PAGES.values() if f"frame.{page.lower()}" not in OWN.strings] == []


@pytest.mark.parametrize("language", OTHERS)
def test_every_record_and_label_of_the_library_is_said_in_every_language(language):
    words = words_of(language)
    wanted = {
        f"{type(record).__name__}.{record.name}.{part}"
        for record in RECORDS
        for part in ("title", "summary")
        if hasattr(record, part)
    }
    assert set(words.under("record")) == wanted
    assert set(words.under("chart")) == set(LABELS)
    for name, label in words.under("chart").items():
        assert sorted(re.findall(r"{[^}]*}", label)) == sorted(re.findall(r"{[^}]*}", LABELS[name])), name


def told_by_their_english():
    """Every message of work under way, every reason to leave a layer whole, and every error that a page raises."""
    for path in [*LIBRARY, *SOURCES]:
        tree = parsed(path)
        yield from messages(tree, "Progress", 2, "what")
        yield from messages(tree, "within", 3, "what")
        if "graph" in path.parts:
            yield from (*messages(tree, "fix", 1), *messages(tree, "join", 1))
        if path in SOURCES:
            yield from messages(tree, "FpgmError")


@pytest.mark.parametrize("language", OTHERS)
def test_every_message_of_work_and_of_a_page_is_said_in_every_language(language):
    words = words_of(language)
    assert [text for text in told_by_their_english() if words.phrase(text) == text] == []


@pytest.mark.parametrize("language", OTHERS)
def test_every_phrase_is_found_by_its_english_and_fills_the_same_placeholders(language):
    words = words_of(language)
    for english, said in words.under("phrase").items():
        fields = {name: f"X{place}" for place, name in enumerate(re.findall(r"{(\w+)}", english))}
        assert words.phrase(english.format(**fields)) == said.format(**fields), f"another phrase takes {english!r}"


@pytest.mark.parametrize("language", OTHERS)
@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_on_speed_is_said_in_every_language(language, verdict):
    said = 1.4 if verdict == FASTER else 0.8 if verdict == SLOWER else None
    english = speed_told({"verdict": verdict, "speed_up": said, "ratio_low": 0.71, "ratio_high": 1.52})
    words = words_of(language).phrase(english)
    assert "[0.71, 1.52]" in words
    assert not re.search("[a-z]", words), words


# What is no English to translate: names, code, values of menus, and errors within errors.
NOT_ENGLISH = {
    "fpgm evaluate X1 --data X1", "fpgm layers X1", "fpgm evaluate", "Refit cost", "too long", "cut short, or too long",
    "not the weights that it is named by", "<script>document.documentElement.lang = X1</script>",
    "X1=X1; Path=/; HttpOnly; SameSite=Lax; Max-Age=X1",
}  # fmt: skip


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_page_draws_english_of_its_own(path):
    """All that a page draws comes from the language files, by name, or by its English where it is a message."""
    texts = set(drawn_texts(parsed(path))) - NOT_ENGLISH
    assert [text for text in texts if any(words_of(language).phrase(text) == text for language in OTHERS)] == []


@pytest.mark.parametrize(
    "source",
    [
        'st.button("Go", key="go")',
        'st.caption(f"{n} filters")',
        'column.selectbox("Model" if a else "", [], key="m")',
        'st.toggle(words("a.b"), help="Why")',
        'st.markdown(f"**{a}**" + " of it")',
        'pd.DataFrame({"file": names})',
        'TITLE = "Nobody translates this"',
    ],
)
def test_english_that_a_page_draws_would_be_found(source):
    assert list(drawn_texts(ast.parse(source)))


@pytest.mark.parametrize(
    "source", ['st.button(words("a.b"), key="go")', '"""A docstring of words."""', '_log.info("one two three")']
)
def test_what_nobody_reads_is_no_english_to_find(source):
    assert not list(drawn_texts(ast.parse(source)))


def test_scripts_draw_no_english_of_their_own():
    """What the browser draws was sent as data."""
    scripts = re.sub(r"\$\{(?:[^{}]|\{[^{}]*\})*\}", "", SCRIPTS)
    drawn = (
        r"(?:textContent|innerText|innerHTML|\.title)\s*\+?=\s*",
        r"setAttribute\(\"aria-(?:label|description|valuetext)\", ",
        r"element\(\"\w+\", \"[^\"]*\", \w+, ",
    )
    assert [found for call in drawn for found in re.findall(rf"{call}[\"'`][^\"'`]*[A-Za-z]{{2}}.*", scripts)] == []
