"""The whole lesson with one network's figures as a single HTML file that opens without a server and prints."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fpgm_core.lesson.content import Found, Picture, Scene, Shown, Step
from fpgm_core.lesson.controls import Controls
from fpgm_core.lesson.steps import MEASUREMENTS, STEPS, can_measure, joined
from fpgm_core.lesson.words import Words, words_of
from fpgm_core.pruning import Network
from fpgm_core.runtime.progress import finished

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


def document_steps(
    network: Network, language: str, controls: Mapping[str, Controls] | None = None
) -> Iterator[float | str]:
    """Write the lesson on a network, in a language; yields the share done, 0..1, and last the HTML.

    Steps stand as `controls` (by name) set them, else as they come, all answers shown. What they need is measured
    first, unless it was before. A network that cannot be measured here keeps the steps that need no images.

    Raises FpgmError for an unknown language, or controls that do not fit the network.
    """
    words = words_of(language)
    needs = [need for step in STEPS.values() for need in step.needs] if can_measure(network) else []
    parts: list[Found] = []
    for done, need in enumerate(needs):
        share = yield from finished(
            MEASUREMENTS[need](network), 0.95 * done / len(needs), 0.95 * (done + 1) / len(needs)
        )
        parts.append(share)
    scene = Scene(network, words, joined(parts))
    sections = []
    for number, step in enumerate(STEPS.values(), 1):
        shown = step.show(scene, (controls or {}).get(step.name) or step.controls())
        sections.append(_section(number, step, shown, words, first=number == 1, complete=bool(needs or not step.needs)))
        yield 0.95 + 0.05 * number / len(STEPS)
    yield _page(network, words, sections)


def _page(network: Network, words: Words, sections: Sequence[str]) -> str:
    minutes = sum(step.minutes for step in STEPS.values())
    title = _text(words("page.title"))
    made = words("page.made", fingerprint=network.fingerprint[:12])
    parts = [
        f"<h1>{title}</h1><p>{_text(words('page.subtitle', minutes=minutes, network=network.title))}</p>",
        f"<p><small>{_text(made)}</small></p>",
        *sections,
        _check(words),
        _list(words, "glossary"),
        _list(words, "references"),
    ]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="{words.language}"><head>{head}</head><body>{body}</body></html>\n'


def _section(number: int, step: Step, shown: Shown, words: Words, first: bool, complete: bool) -> str:
    """A step; `first` brings plotly along, and what is not `complete` says what it would take."""
    name = step.name
    parts = [f"<h2>{number}. {_text(words(f'{name}.title'))}</h2>", _paragraphs(words(f"{name}.lead"))]
    parts.append(f'<p class="formula">{_text(words(f"{name}.formula"))}</p>')
    if step.options:
        options = " · ".join(_option(words(f"{name}.{option}"), option == shown.answer) for option in step.options)
        parts.append(f"<h3>{_text(words(f'{name}.question'))}</h3><p>{options}</p>")
    parts += [_picture(one, words, scripts=first and not index) for index, one in enumerate(shown.pictures)]
    if shown.conclusion:
        said = "".join(f"<li>{_text(sentence)}</li>" for sentence in shown.conclusion)
        parts.append(f'<div class="says"><h3>{_text(words("page.conclusion"))}</h3><ul>{said}</ul></div>')
    if not complete:
        parts.append(f"<p>{_text(words('page.only_trained'))}</p>")
    return f'<section id="{name}">{"".join(parts)}</section>'


def _option(text: str, right: bool) -> str:
    """One of a question's options; the right one is ticked."""
    return f"<strong>{_text(text)} ✓</strong>" if right else _text(text)


def _picture(picture: Picture, words: Words, scripts: bool) -> str:
    """A figure with its caption and table; `scripts` puts plotly itself before it, once a file."""
    figure = picture.figure.to_html(full_html=False, include_plotlyjs=scripts, config={"displayModeBar": False})
    table = _table(picture.table, words) if picture.table else ""
    return f"<figure>{figure}<figcaption>{_text(picture.caption)}</figcaption></figure>{table}"


def _table(table: Mapping[str, Sequence[Any]], words: Words) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in table)
    rows = "".join(
        f"<tr>{''.join(f'<td>{_text(_number(value))}</td>' for value in row)}</tr>"
        for row in zip(*table.values(), strict=True)
    )
    return f"<details><summary>{_text(words('page.numbers'))}</summary><table><tr>{head}</tr>{rows}</table></details>"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _check(words: Words) -> str:
    pairs = "".join(f"<h3>{_text(words(f'check.q{n}'))}</h3><p>{_text(words(f'check.a{n}'))}</p>" for n in range(1, 5))
    return f"<section><h2>{_text(words('page.check'))}</h2>{pairs}</section>"


def _list(words: Words, kind: str) -> str:
    items = "".join(f"<li>{_text(text)}</li>" for text in words.under(kind).values())
    return f"<h2>{_text(words(f'page.{kind}'))}</h2><ul>{items}</ul>"


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_text(line)}</p>" for line in text.splitlines() if line.strip())


def _text(text: str) -> str:
    """Escaped, with the two marks that the words use: **strong** and *emphasis*."""
    strong = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", html.escape(text))
    return re.sub(r"\*(.+?)\*", r"<em>\1</em>", strong)
