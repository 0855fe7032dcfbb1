"""The lesson on paper with one network's figures: a worksheet, and the key to it. They open without a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fpgm_core.data import ImageSet
from fpgm_core.lesson.content import Evidence, Picture, Step, StepContext, StepView
from fpgm_core.lesson.controls import Controls
from fpgm_core.lesson.evidence import MEASUREMENTS, Measure, combined
from fpgm_core.lesson.markup import STYLES, formulas, marked, number, paragraphs
from fpgm_core.lesson.steps import STEPS
from fpgm_core.lesson.words import words_of
from fpgm_core.pruning import Network
from fpgm_core.runtime.progress import Progress, Work, within
from fpgm_core.runtime.words import Words

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c1e21; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 3rem; border-bottom: 2px solid #0072B2; } h3 { margin: 1.2rem 0 .2rem; font-size: 1rem; }
.formula { padding: .6rem 1rem; background: #f2f4f7; } .formula div { margin: .5rem 0; }
.formula math { white-space: nowrap; }
.options { list-style: none; padding: 0; } .lines { border-bottom: 1px solid #8a9099; height: 2rem; }
.says { border-left: 4px solid #0072B2; padding: .2rem 1rem; } figure { margin: 1rem 0; break-inside: avoid; }
figcaption, small { color: #50565e; font-size: .9rem; } table { border-collapse: collapse; font-size: .8rem; }
td, th { padding: .1rem .6rem; text-align: right; } td:first-child, th:first-child { text-align: left; }
details { break-inside: avoid; } section { break-before: page; } .js-plotly-plot .modebar { display: none; }
@media print { details { display: none; } body { margin: 0; } }
"""


@dataclass(frozen=True)
class LessonDocument:
    """Two HTML files, each whole by itself: questions with room for answers, and the answers with what proves them."""

    worksheet: str
    key: str


def document_work(
    network: Network,
    language: str,
    *,
    images: ImageSet | None = None,
    training: ImageSet | None = None,
    controls: Mapping[str, Controls] | None = None,
    measurements: Mapping[str, Measure] = MEASUREMENTS,
) -> Work[LessonDocument]:
    """Write the lesson on a network, in a language, as a worksheet and its key.

    Steps stand as `controls` (by step) set them, else at their defaults. What they need is first measured by
    `measurements` on `images` to choose on and `training` images; without either, or for a network with random
    weights, what needs images is left out.

    Raises FpgmError for an unknown language, or controls that do not fit the network.
    """
    words = words_of(language)
    evidence = None
    if images is not None and training is not None and network.trained:
        evidence = yield from within(_evidence_work(network, images, training, measurements=measurements), 0.0, 0.95)
    context = StepContext(network, words, evidence or Evidence(), revealed=False)
    asked, answered = list[str](), list[str]()
    for position, step in enumerate(STEPS.values(), 1):
        chosen = (controls or {}).get(step.name) or step.controls()
        title = f"<h2>{position}. {marked(words(f'{step.name}.title'))}</h2>"
        note = "" if evidence is not None or not step.needs else f"<p>{marked(words('page.only_trained'))}</p>"
        for parts, revealed, write in ((asked, False, _asked), (answered, True, _answered)):
            view = step.show(replace(context, revealed=revealed), chosen)
            body = write(step, view, with_script=position == 1, words=words)
            parts.append(f'<section id="{step.name}">{title}{body}{note}</section>')
        yield Progress(0.95 + 0.05 * position / len(STEPS))
    worksheet = [f"<p>{marked(words('page.name'))}</p>", *asked, _check(words), _list(words, "glossary")]
    key = [*answered, _check(words, answered=True), _list(words, "references")]
    return LessonDocument(
        _page(network, "worksheet", worksheet, words=words), _page(network, "answers", key, words=words)
    )


def _evidence_work(
    network: Network, images: ImageSet, training: ImageSet, *, measurements: Mapping[str, Measure]
) -> Work[Evidence]:
    """All that the steps need, measured one after another."""
    needs = [need for step in STEPS.values() for need in step.needs]
    parts = []
    for done, need in enumerate(needs):
        work = measurements[need](network, images, training)
        parts.append((yield from within(work, done / len(needs), (done + 1) / len(needs))))
    return combined(parts)


def _page(network: Network, kind: str, parts: Sequence[str], *, words: Words) -> str:
    """One of the two files, the `kind` of which stands beside its title."""
    minutes = sum(step.minutes for step in STEPS.values())
    title = marked(f"{words('page.title')} · {words(f'page.{kind}')}")
    subtitle = words("page.subtitle", count=len(STEPS), minutes=minutes, network=network.title)
    made = words("page.made", fingerprint=network.fingerprint[:12])
    top = [f"<h1>{title}</h1><p>{marked(subtitle)}</p>", f"<p><small>{marked(made)}</small></p>"]
    style = f"{_STYLE}{STYLES.get(words.language, '')}"
    head = f'<meta charset="utf-8"><title>{title}</title><style>{style}</style>'
    body = "\n".join([*top, *parts])
    return f'<!doctype html>\n<html lang="{words.language}"><head>{head}</head><body>{body}</body></html>\n'


def _asked(step: Step, view: StepView, *, with_script: bool, words: Words) -> str:
    """A step on the worksheet: its words, its pictures as they are before the answer, its question."""
    name = step.name
    parts = [paragraphs(words(f"{name}.lead")), formulas(words(f"{name}.formula"))]
    parts += [
        _picture(replace(picture, table=None), with_script=with_script and not index, words=words)
        for index, picture in enumerate(view.pictures)
    ]
    if step.asks:
        options = "".join(f"<li>☐ {marked(words(f'{name}.{option}'))}</li>" for option in step.options)
        parts.append(f'<h3>{marked(words(f"{name}.question"))}</h3><ul class="options">{options}</ul>')
        parts.append(f"<p>{marked(words('page.reason'))}</p>" + '<div class="lines"></div>' * 2)
    return "".join(parts)


def _answered(step: Step, view: StepView, *, with_script: bool, words: Words) -> str:
    """A step of the key: its question with the right option ticked, why, and the pictures that prove it."""
    name, parts = step.name, list[str]()
    if step.asks:
        options = " · ".join(_option(words(f"{name}.{option}"), option == view.answer) for option in step.options)
        parts.append(f"<h3>{marked(words(f'{name}.question'))}</h3><p>{options}</p>")
    if step.explained:
        parts.append(paragraphs(words(f"{name}.why")))
    if view.conclusion:
        sentences = "".join(f"<li>{marked(sentence)}</li>" for sentence in view.conclusion)
        parts.append(f'<div class="says"><h3>{marked(words("page.conclusion"))}</h3><ul>{sentences}</ul></div>')
    parts += [
        _picture(picture, with_script=with_script and not index, words=words)
        for index, picture in enumerate(view.pictures)
    ]
    return "".join(parts)


def _option(text: str, right: bool) -> str:
    """One option of a question; the right one is ticked."""
    return f"<strong>{marked(text)} ✓</strong>" if right else marked(text)


def _picture(picture: Picture, *, with_script: bool, words: Words) -> str:
    """A figure with its caption and table; `with_script` puts plotly's own script before it, once in a file."""
    figure = picture.figure.to_html(full_html=False, include_plotlyjs=with_script, config={"displayModeBar": False})
    table = _table(picture.table, words) if picture.table else ""
    return f"<figure>{figure}<figcaption>{marked(picture.caption)}</figcaption></figure>{table}"


def _table(table: Mapping[str, Sequence[Any]], words: Words) -> str:
    head = "".join(f"<th>{marked(name)}</th>" for name in table)
    rows = "".join(
        f"<tr>{''.join(f'<td>{marked(number(value))}</td>' for value in row)}</tr>"
        for row in zip(*table.values(), strict=True)
    )
    return f"<details><summary>{marked(words('page.numbers'))}</summary><table><tr>{head}</tr>{rows}</table></details>"


def _check(words: Words, *, answered: bool = False) -> str:
    """The closing questions, with their answers or with room for them."""
    pairs = "".join(
        f"<h3>{marked(words(f'check.q{n}'))}</h3>"
        + (f"<p>{marked(words(f'check.a{n}'))}</p>" if answered else '<div class="lines"></div>' * 3)
        for n in range(1, 5)
    )
    return f"<section><h2>{marked(words('page.check'))}</h2>{pairs}</section>"


def _list(words: Words, kind: str) -> str:
    items = "".join(f"<li>{marked(text)}</li>" for text in words.under(kind).values())
    return f"<h2>{marked(words(f'page.{kind}'))}</h2><ul>{items}</ul>"
