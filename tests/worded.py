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


def unknown_names(path, strings):
    """The names that a source writes out, whole or put together, and that no string has."""
    options = [(option, ast.unparse(option)) for option in written_out(parsed(path))]
    whole = [text for option, text in options if isinstance(option, ast.Constant) and option.value not in strings]
    made = [(template(option), text) for option, text in options if isinstance(option, ast.JoinedStr)]
    return whole + [text for pattern, text in made if not any(re.fullmatch(pattern, name) for name in strings)]


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


# Methods of Streamlit that draw what they are given, and the arguments of theirs that nobody reads.
DRAWN = {
    "button", "caption", "checkbox", "dialog", "download_button", "error", "expander", "file_uploader",
    "header", "html", "info", "markdown", "metric", "multiselect", "number_input", "page_link", "pills",
    "popover", "progress", "radio", "segmented_control", "select_slider", "selectbox", "set_page_config",
    "slider", "spinner", "subheader", "success", "tabs", "text_area", "text_input", "title", "toast", "toggle",
    "warning", "write",
}  # fmt: skip
UNSEEN = {
    "args", "default", "file_name", "format", "icon", "initial_sidebar_state", "key", "label_visibility",
    "layout", "mime", "on_click", "options", "persist_state", "query_params", "selection_mode", "type",
    "vertical_alignment", "width",
}  # fmt: skip
MOST_SEEN = {"download_button": 1, "page_link": 0, "segmented_control": 1, "selectbox": 1}  # arguments that are read
WORD = re.compile(r"[A-Za-z]{2,}")
PROSE = re.compile(r"[A-Za-z]{2,}[,;:.]? [A-Za-z]{2,}")
TAG = re.compile(r"<[^<>]*>?|[^<>]*>|[^{}]*{[^{}]*;[^{}]*}")  # of HTML, and rules of CSS


def filled(node):
    """A text as it would be told, "X1" for each of its {braces}; None for what is no text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "X1" for part in node.values)
    return None


def messages(tree, called, place=0, keyword=None):
    """Texts that a source hands to calls of that name, at a place or under a keyword, as they would be told."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == called:
            named = [word.value for word in node.keywords if word.arg == keyword]
            for value in [*node.args[place : place + 1], *named]:
                either = (value.body, value.orelse) if isinstance(value, ast.IfExp) else (value,)
                yield from filter(None, map(filled, either))


def drawn_texts(tree):
    """English that a source draws itself: words in calls that draw, headings of tables, and prose anywhere."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = "" if _is_log(node) else getattr(node.func, "attr", getattr(node.func, "id", ""))
        if called in DRAWN:
            read = [word.value for word in node.keywords if word.arg not in UNSEEN]
            read += node.args[: MOST_SEEN.get(called)]
        elif called == "DataFrame":
            read = [key for part in node.args if isinstance(part, ast.Dict) for key in part.keys if key]
        else:
            continue
        yield from (text for part in read for text in texts_of(part) if WORD.search(TAG.sub("", text)))
    silent = {id(part) for node in ast.walk(tree) for part in _unread(node)}
    for node in ast.walk(tree):
        text = filled(node)
        if text is not None and id(node) not in silent and PROSE.search(TAG.sub("", text)):
            yield text


def texts_of(node):
    """The texts that an expression is made of, whatever it chooses among and puts together; none of calls in it."""
    if isinstance(node, (ast.Constant, ast.JoinedStr)):
        yield from filter(None, [filled(node)])
    elif not isinstance(node, (ast.Call, ast.Lambda, ast.Subscript, ast.Attribute, ast.Compare)):
        for part in ast.iter_child_nodes(node):
            yield from texts_of(part)


def _unread(node):
    """What is in a docstring or a log, and the parts of what is put together, which are read as a whole."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield from node.values
    elif isinstance(node, ast.Call) and _is_log(node):
        yield from node.args


def _is_log(call):
    return getattr(getattr(call.func, "value", None), "id", "") in ("log", "_log")
