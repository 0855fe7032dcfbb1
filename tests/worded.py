"""What the tests of the language files share: the files, placeholders, and the names that a source asks for."""

import ast
import re
import string
from pathlib import Path

import fpgm_core
from fpgm_core.runtime.words import LANGUAGES

ROOT = Path(fpgm_core.__file__).parent.parent
FOLDERS = {"lesson": ROOT / "fpgm_core" / "lesson" / "languages", "pages": ROOT / "pages" / "ui" / "languages"}
LATEX = re.compile(r"\$\$.*?\$\$", re.DOTALL)
OTHERS = [language for language in LANGUAGES if language != "en"]


def unformulated(words):
    """A language's strings by name, without formulas: LaTeX has braces and marks of its own."""
    return {name: LATEX.sub("", text) for name, text in words.strings.items() if not name.endswith(".formula")}


def braces(text):
    """The placeholders of a string: name, format and conversion."""
    return sorted({(name, form, how) for _, name, form, how in string.Formatter().parse(text) if name is not None})


def keys(table, prefix=""):
    """The dotted names of a TOML table."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def asked(tree):
    """The first argument of every call of `words` in a source."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("words", "_words"):
                yield node.args[0]


def written_out(tree):
    """The names that a source asks for, either branch of a choice by itself: constants and f-strings."""
    for node in asked(tree):
        yield from (node.body, node.orelse) if isinstance(node, ast.IfExp) else (node,)


def constants(tree):
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def template(node):
    """A name that is put together, as an expression that matches what it can become."""
    return "".join(re.escape(part.value) if isinstance(part, ast.Constant) else r"(\w+)" for part in node.values)


def names_of(path, strings, registered):
    """What a source asks for: names as they stand, and templates of names with the words that can fill them."""
    tree = parsed(path)
    known = constants(tree) | registered
    for node in asked(tree):
        for part in ast.walk(node):
            if isinstance(part, ast.JoinedStr):
                yield template(part), known
    templates = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in templates and str(node.value) in strings:
            yield re.escape(node.value), known


def sections(paths):
    """Prefixes that a source takes whole, with `under`, by their words."""
    for path in paths:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "under":
                yield from (part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant))
