"""Every string that a person sees, by name: one TOML file for each language, in a folder of whoever says them.

What the library says of itself is English and stands in its code: what records are called, what work is doing, why
something is refused. A language's file has its own words for those, by the record's name or by the English itself.
"""

from __future__ import annotations

import re
import string
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources.abc import Traversable
from typing import Any

from fpgm_core.errors import FpgmError

LANGUAGES: Mapping[str, str] = {"en": "English", "ko": "한국어"}
# The sections of what the library says: of records, by type, name and part; and by the English, with {braces} in it.
_RECORDS, _PHRASES = "record", "phrase"


@dataclass(frozen=True)
class Words:
    """One language's strings by dotted name, "median.title": call it with a name and the values for its {braces}."""

    language: str
    strings: Mapping[str, str]

    def __call__(self, name: str, /, **values: Any) -> str:
        """The string of that name, its {braces} filled. Raises KeyError where there is none, or a value is missing."""
        return self.strings[name].format(**values) if values else self.strings[name]

    def under(self, prefix: str) -> dict[str, str]:
        """The strings below a dotted name, by what follows it, in the file's order."""
        if prefix not in self._sections:
            start = f"{prefix}."
            self._sections[prefix] = {
                name.removeprefix(start): text for name, text in self.strings.items() if name.startswith(start)
            }
        return dict(self._sections[prefix])

    def of(self, record: Any, part: str = "title") -> str:
        """What a record of a registry is called, or another `part` of it that is said.

        English is the record's own; so is what another language has no words for, as of a record that a user adds.
        """
        name = f"{_RECORDS}.{type(record).__name__}.{record.name}.{part}"
        return self.strings.get(name) or str(getattr(record, part))

    def phrase(self, text: str) -> str:
        """A message of the library, and messages within it, in English where this language has no words for them."""
        for pattern, said in self._phrases:
            if found := pattern.fullmatch(text):
                return said.format(**{name: self.phrase(part) for name, part in found.groupdict().items()})
        return text

    @cached_property
    def _sections(self) -> dict[str, dict[str, str]]:
        """What was asked for under a prefix: pages ask for it at every drag."""
        return {}

    @cached_property
    def _phrases(self) -> list[tuple[re.Pattern[str], str]]:
        """Phrases as expressions, those with the most English of their own first: others may match as well."""
        phrases = sorted(self.under(_PHRASES).items(), key=lambda pair: -len(re.sub(r"{\w*}", "", pair[0])))
        return [(re.compile(_pattern(english)), said) for english, said in phrases]

    def __or__(self, other: Words) -> Words:
        """These strings and another's, of one language."""
        return Words(self.language, {**self.strings, **other.strings})


def read_words(folder: Traversable, language: str) -> Words:
    """The words of a language, from its file in a folder. Raises FpgmError, listing them, for one that there is not."""
    if language not in LANGUAGES:
        raise FpgmError(f"this is not written in {language!r}; choose one of {', '.join(LANGUAGES)}")
    text = (folder / f"{language}.toml").read_text(encoding="utf-8")
    return Words(language, dict(_flat(tomllib.loads(text))))


def _pattern(english: str) -> str:
    """The expression of texts with anything for {braces}."""
    parts = string.Formatter().parse(english)
    return "".join(re.escape(text) + (f"(?P<{name}>.+?)" if name else "") for text, name, _, _ in parts)


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    strings: list[tuple[str, str]] = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            strings += _flat(value, f"{prefix}{key}.")
        else:
            strings.append((f"{prefix}{key}", value.strip()))
    return strings
