"""The lesson's words: every string that a user sees, one file for each language."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from fpgm_core.errors import FpgmError

LANGUAGES: Mapping[str, str] = {"en": "English", "ko": "한국어"}


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
        return {
            name.removeprefix(f"{prefix}."): text
            for name, text in self.strings.items()
            if name.startswith(f"{prefix}.")
        }


@lru_cache(maxsize=len(LANGUAGES))
def words_of(language: str) -> Words:
    """The words of a language. Raises FpgmError, listing them, for one that the lesson is not written in."""
    if language not in LANGUAGES:
        raise FpgmError(f"the lesson is not written in {language!r}; choose one of {', '.join(LANGUAGES)}")
    file = resources.files("fpgm_core.lesson") / "languages" / f"{language}.toml"
    return Words(language, dict(_flat(tomllib.loads(file.read_text(encoding="utf-8")))))


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    strings: list[tuple[str, str]] = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            strings += _flat(value, f"{prefix}{key}.")
        else:
            strings.append((f"{prefix}{key}", value.strip()))
    return strings
