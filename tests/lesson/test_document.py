"""The printable lesson: a worksheet and its answers, each a whole file, in one language, that loads nothing."""

import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product

import pytest
from samples import ZEROS

from fpgm_core import FpgmError, Network
from fpgm_core.lesson import (
    LANGUAGES,
    MEASUREMENTS,
    STEPS,
    Evidence,
    FilterControls,
    StepContext,
    document_work,
    get_step,
    words_of,
)
from fpgm_core.lesson.controls import NormControls
from fpgm_core.lesson.markup import formulas, marked, number, paragraphs
from fpgm_core.runtime.progress import Progress, run

EMPTY = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source"}
LOADING = {"src", "href", "data", "srcset", "poster", "action"}


class Page(HTMLParser):
    """A file read strictly: what is open is closed in its turn. Keeps tags, visible text by section, and scripts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.scripts, self.styles, self.sections = [], [], [], [], {"": []}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in EMPTY:
            self.open.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        opened, _ = self.open.pop()
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data):
        inside = self.open[-1][0] if self.open else ""
        if inside in ("script", "style"):
            (self.scripts if inside == "script" else self.styles).append(data)
        else:
            section = next((kept["id"] for tag, kept in self.open if tag == "section" and "id" in kept), "")
            self.sections[section].append(data) if section in self.sections else self.sections.update({section: [data]})

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)

    def text(self, section):
        return "".join(self.sections[section])


def plain(text):
    """A string as it is read: its marks are gone."""
    return text.replace("*", "")


def halfway(result):
    """Work that says once how far it is."""
    yield Progress(0.5)
    return result


def measured(known):
    """Measurements that take no time."""
    return {
        "costs": lambda *_: halfway(Evidence(known.moments, known.replaceability)),
        "contest": lambda *_: halfway(Evidence(contest=known.contest)),
        "zeros": lambda *_: halfway(Evidence(zeros=ZEROS)),
    }


@pytest.fixture(scope="module")
def written(network, images, evidence):
    """ResNet-20's lesson in every language: shares, and by kind the files and the files read."""
    files = {}
    for language in LANGUAGES:
        shares = []
        work = document_work(
            network("resnet20"),
            language,
            images=images("choose"),
            training=images("train"),
            measurements=measured(evidence("resnet20")),
        )
        document = run(work, lambda step, shares=shares: shares.append(step.share))
        texts = {"worksheet": document.worksheet, "answers": document.key}
        files[language] = shares, texts, {kind: Page(text) for kind, text in texts.items()}
    return files


@pytest.fixture(scope="module")
def unmeasured(network):
    """The lesson on a network without weights, read."""
    document = run(document_work(network("shufflenet_v2_x0_5"), "en"))
    return {"worksheet": Page(document.worksheet), "answers": Page(document.key)}


def scene(network, evidence, language, revealed):
    known = replace(evidence("resnet20"), zeros=ZEROS)
    return StepContext(network("resnet20"), words_of(language), known, revealed)


KINDS = ("worksheet", "answers")
in_every_file = pytest.mark.parametrize(("language", "kind"), list(product(LANGUAGES, KINDS)))


@in_every_file
def test_it_is_one_whole_file_in_its_language(written, language, kind):
    shares, texts, pages = written[language]
    page, text = pages[kind], texts[kind]
    assert text.startswith("<!doctype html>\n")
    assert page.tags[0] == ("html", {"lang": language})
    assert [page.count(tag) for tag in ("html", "head", "body", "title", "h1")] == [1] * 5
    assert ("meta", {"charset": "utf-8"}) in page.tags
    assert text.encode().decode() == text
    assert words_of(language)(f"page.{kind}") in page.text("")
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] == 1


@in_every_file
def test_it_loads_nothing(written, language, kind):
    page = written[language][2][kind]
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "img"), tag
        for name in LOADING & set(attributes):
            assert attributes[name].startswith("#"), (tag, attributes)
    assert not re.search(r"url\(|@import", "".join(page.styles))


@in_every_file
def test_plotly_is_in_it_once(written, language, kind):
    page = written[language][2][kind]
    assert len([script for script in page.scripts if re.search(r"plotly\.js v\d", script)]) == 1
    assert max(map(len, page.scripts)) > 1_000_000
    assert sum(len(script) > 1_000_000 for script in page.scripts) == 1
    drawn = [n for n, script in enumerate(page.scripts) if "Plotly.newPlot" in script and len(script) < 1_000_000]
    assert drawn[0] > max(range(len(page.scripts)), key=lambda n: len(page.scripts[n]))


def figures_in(page):
    assert page.count("figure") == page.count("figcaption")
    assert sum("Plotly.newPlot" in script for script in page.scripts if len(script) < 1_000_000) == page.count("figure")
    return page.count("figure")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_worksheet_asks_and_does_not_answer(written, network, evidence, language):
    page, words = written[language][2]["worksheet"], words_of(language)
    assert [attributes["id"] for tag, attributes in page.tags if tag == "section" and attributes] == list(STEPS)
    covered, drawn = scene(network, evidence, language, False), 0
    for position, step in enumerate(STEPS.values(), 1):
        text = page.text(step.name)
        assert text.startswith(f"{position}. {words(f'{step.name}.title')}")
        for line in words(f"{step.name}.lead").splitlines():
            assert plain(line) in text
        if step.asks:
            assert plain(words(f"{step.name}.question")) in text
        assert [option for option in step.options if f"☐ {words(f'{step.name}.{option}')}" in text] == [*step.options]
        shown = step.show(covered, step.controls())
        drawn += len(shown.pictures)
        assert all(plain(picture.caption) in text for picture in shown.pictures)
        assert "✓" not in text
        said = [*shown.conclusion, *(words(f"{step.name}.why").splitlines() if step.explained else ())]
        assert not [sentence for sentence in said if plain(sentence) in text]
        assert words("page.only_trained") not in text
    assert figures_in(page) == drawn
    assert page.count("table") == 0, "tables have answers in them"
    for number_ in range(1, 5):
        assert plain(words(f"check.q{number_}")) in page.text("")
        assert plain(words(f"check.a{number_}")) not in page.text("")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_answers_have_every_step_with_what_it_says(written, network, evidence, language):
    page, words = written[language][2]["answers"], words_of(language)
    assert [attributes["id"] for tag, attributes in page.tags if tag == "section" and attributes] == list(STEPS)
    revealed, drawn = scene(network, evidence, language, True), 0
    for position, step in enumerate(STEPS.values(), 1):
        text = page.text(step.name)
        assert text.startswith(f"{position}. {words(f'{step.name}.title')}")
        shown = step.show(revealed, step.controls())
        drawn += len(shown.pictures)
        assert shown.conclusion
        reasons = words(f"{step.name}.why").splitlines() if step.explained else []
        for sentence in (*shown.conclusion, *(line for line in reasons if "$$" not in line)):
            assert plain(sentence) in text
        for picture in shown.pictures:
            assert plain(picture.caption) in text
            for title in picture.table or ():
                assert title in text
    assert figures_in(page) == drawn
    for number_ in range(1, 5):
        assert plain(words(f"check.a{number_}")) in page.text("")


@pytest.mark.parametrize("language", LANGUAGES)
def test_glossary_and_references_close_them(written, network, language):
    pages, words = written[language][2], words_of(language)
    for kind, closing in (("worksheet", "glossary"), ("answers", "references")):
        rest = pages[kind].text("")
        assert all(plain(text) in rest for text in words.under(closing).values())
        assert network("resnet20").fingerprint[:12] in rest
        assert words("page.title") in rest
        assert "ResNet-20" in rest


@pytest.mark.parametrize("language", LANGUAGES)
def test_formulas_are_mathml_that_does_not_break(written, language):
    page = written[language][2]["worksheet"]
    lines = [line for step in STEPS for line in words_of(language)(f"{step}.formula").splitlines()]
    assert page.count("math") == len(lines)
    assert "white-space: nowrap" in "".join(page.styles)
    assert "\\" not in "".join(page.text(step) for step in STEPS)


def test_korean_keeps_words_whole_and_upright(written):
    style = "".join(written["ko"][2]["worksheet"].styles)
    assert "word-break: keep-all" in style
    assert "font-style: normal" in style
    assert "keep-all" not in "".join(written["en"][2]["worksheet"].styles)


def test_languages_do_not_mix(written):
    for language, other in (("en", "ko"), ("ko", "en")):
        words = words_of(other)
        for page in written[language][2].values():
            assert not any(plain(words(f"{name}.title")) in page.text(name) for name in STEPS)


def test_numbers_of_a_picture_are_in_its_table(written, evidence):
    text = written["en"][2]["answers"].text("cost")
    contest = evidence("resnet20").contest
    for criterion in contest.criteria:
        assert f"{contest.accuracy(contest.entry(criterion), 'repaired').value:.6g}" in text


def test_a_network_without_weights_keeps_what_needs_no_images(unmeasured):
    said = words_of("en")("page.only_trained")
    for page in unmeasured.values():
        for step in STEPS.values():
            assert (said in page.text(step.name)) == bool(step.needs)
        assert "shufflenet" in page.text("")
    answers = unmeasured["answers"]
    assert words_of("en")("page.conclusion") in answers.text("norms")
    assert words_of("en")("page.conclusion") not in answers.text("replaceable")
    assert "is ahead of FPGM" not in answers.text("cost")


@pytest.mark.parametrize(("name", "given"), [("shufflenet_v2_x0_5", True), ("resnet20", False)])
def test_nothing_is_measured_without_weights_or_images(network, images, name, given):
    def never(*_):
        pytest.fail("measured")

    sets = {"images": images("choose"), "training": images("train")} if given else {}
    work = document_work(network(name), "en", measurements=dict.fromkeys(MEASUREMENTS, never), **sets)
    assert next(work).share > 0.95


def hostile(net, title):
    """A network whose title is not to be trusted."""
    return Network(net.module, net.input_shape, name=net.name, title=title, dataset=net.dataset, trained=False)


def test_a_hostile_title_is_text(network):
    title = "<script>alert('1')</script>&amp;\"<b x='"
    document = run(document_work(hostile(network("resnet20"), title), "en"))
    for text in (document.worksheet, document.key):
        page = Page(text)
        assert "<script>alert" not in text
        assert html.escape(title) in text
        assert title in page.text("")
        assert page.count("b") == 0
    assert title in Page(document.key).text("norms")


def test_marks_become_tags_and_numbers_are_short():
    assert marked("a **b** *c* <d>") == "a <strong>b</strong> <em>c</em> &lt;d&gt;"
    assert number(0.123456789) == "0.123457"
    assert number(12_345_678) == "12345678"
    assert number(None) == "None"
    assert paragraphs("one\n\n$$x$$") == f"<p>one</p>{formulas('x')}"


def test_it_stands_as_it_was_set(network):
    controls = {"norms": NormControls(deviation=0.2, smallest=0.0, rate=0.1)}
    net = hostile(network("resnet20"), "untrained")
    page = Page(run(document_work(net, "en", controls=controls)).key)
    said = STEPS["norms"].show(StepContext(net, words_of("en")), controls["norms"]).conclusion
    assert all(plain(sentence) in page.text("norms") for sentence in said)
    assert said[0] != STEPS["norms"].show(StepContext(net, words_of("en")), NormControls()).conclusion[0]


def test_what_cannot_be_is_refused(network):
    with pytest.raises(FpgmError, match="choose one of en, ko"):
        next(document_work(network("resnet20"), "de"))
    with pytest.raises(FpgmError, match="offers no layer 'nobody'"):
        run(document_work(network("shufflenet_v2_x0_5"), "en", controls={"reviewer": FilterControls("nobody")}))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", [name for name, step in STEPS.items() if step.options])
def test_the_right_option_is_ticked(written, network, evidence, language, name):
    words, step = words_of(language), get_step(name)
    text = written[language][1]["answers"]
    section = text[text.index(f'<section id="{name}">') :].partition("</section>")[0]
    ticked = [option for option in step.options if f"<strong>{words(f'{name}.{option}')} ✓</strong>" in section]
    assert ticked == [step.show(scene(network, evidence, language, True), step.controls()).answer]
