"""The whole lesson with one network's figures as a single HTML file that opens without a server and prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fpgm_core.data import ImageSet
from fpgm_core.lesson.content import Evidence, Picture, Step, StepContext, StepView
from fpgm_core.lesson.controls import Controls
from fpgm_core.lesson.evidence import MEASUREMENTS, Measure, combined
from fpgm_core.lesson.markup import marked, number
from fpgm_core.lesson.steps import STEPS
from fpgm_core.lesson.words import Words, words_of
from fpgm_core.pruning import Network
from fpgm_core.runtime.progress import Progress, Work, within

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1c1e21; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin-top: 3rem; border-bottom: 2px solid #0072B2; } h3 { margin: 1.2rem 0 .2rem; font-size: 1rem; }
.formula { font-family: "Cambria Math", "STIX Two Text", serif; font-size: 1.1rem; padding: .6rem 1rem;
  background: #f2f4f7; white-space: pre-wrap; }
.says { border-left: 4px solid #0072B2; padding: .2rem 1rem; } figure { margin: 1rem 0; break-inside: avoid; }
figcaption, small { color: #50565e; font-size: .9rem; } table { border-collapse: collapse; font-size: .8rem; }
td, th { padding: .1rem .6rem; text-align: right; } td:first-child, th:first-child { text-align: left; }
details { break-inside: avoid; } section { break-before: page; } .js-plotly-plot .modebar { display: none; }
@media print { details { display: none; } body { margin: 0; } }
"""


def document_work(
    network: Network,
    language: str,
    *,
    images: ImageSet | None = None,
    training: ImageSet | None = None,
    controls: Mapping[str, Controls] | None = None,
    measurements: Mapping[str, Measure] = MEASUREMENTS,
) -> Work[str]:
    """Write the lesson on a network, in a language, as HTML.

    Steps stand as `controls` (by step) set them, else at their defaults, with all answers shown. What they need is
    first measured by `measurements` on `images` to choose on and `training` images; without either, or for a network
    with random weights, what needs images is left out.

    Raises FpgmError for an unknown language, or controls that do not fit the network.
    """
    words = words_of(language)
    evidence = None
    if images is not None and training is not None and network.trained:
        evidence = yield from within(_evidence_work(network, images, training, measurements=measurements), 0.0, 0.95)
    context = StepContext(network, words, evidence or Evidence())
    sections = []
    for position, step in enumerate(STEPS.values(), 1):
        view = step.show(context, (controls or {}).get(step.name) or step.controls())
        sections.append(
            _section(step, view, position=position, complete=evidence is not None or not step.needs, words=words)
        )
        yield Progress(0.95 + 0.05 * position / len(STEPS))
    return _page(network, sections, words=words)


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


def _page(network: Network, sections: Sequence[str], *, words: Words) -> str:
    minutes = sum(step.minutes for step in STEPS.values())
    title = marked(words("page.title"))
    made = words("page.made", fingerprint=network.fingerprint[:12])
    parts = [
        f"<h1>{title}</h1><p>{marked(words('page.subtitle', minutes=minutes, network=network.title))}</p>",
        f"<p><small>{marked(made)}</small></p>",
        *sections,
        _check(words),
        _list(words, "glossary"),
        _list(words, "references"),
    ]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="{words.language}"><head>{head}</head><body>{body}</body></html>\n'


def _section(step: Step, view: StepView, *, position: int, complete: bool, words: Words) -> str:
    """A step; the first brings plotly's script along, and one that is not `complete` says what it would take."""
    name = step.name
    parts = [f"<h2>{position}. {marked(words(f'{name}.title'))}</h2>", _paragraphs(words(f"{name}.lead"))]
    parts.append(f'<p class="formula">{marked(words(f"{name}.formula"))}</p>')
    if step.options:
        options = " · ".join(_option(words(f"{name}.{option}"), option == view.answer) for option in step.options)
        parts.append(f"<h3>{marked(words(f'{name}.question'))}</h3><p>{options}</p>")
    for index, picture in enumerate(view.pictures):
        parts.append(_picture(picture, with_script=position == 1 and index == 0, words=words))
    if view.conclusion:
        sentences = "".join(f"<li>{marked(sentence)}</li>" for sentence in view.conclusion)
        parts.append(f'<div class="says"><h3>{marked(words("page.conclusion"))}</h3><ul>{sentences}</ul></div>')
    if not complete:
        parts.append(f"<p>{marked(words('page.only_trained'))}</p>")
    return f'<section id="{name}">{"".join(parts)}</section>'


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


def _check(words: Words) -> str:
    pairs = "".join(
        f"<h3>{marked(words(f'check.q{n}'))}</h3><p>{marked(words(f'check.a{n}'))}</p>" for n in range(1, 5)
    )
    return f"<section><h2>{marked(words('page.check'))}</h2>{pairs}</section>"


def _list(words: Words, kind: str) -> str:
    items = "".join(f"<li>{marked(text)}</li>" for text in words.under(kind).values())
    return f"<h2>{marked(words(f'page.{kind}'))}</h2><ul>{items}</ul>"


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{marked(line)}</p>" for line in text.splitlines() if line.strip())
