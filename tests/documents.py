"""Blocks of the documents at the root, for the tests that run them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name, language):
    """The contents of a document's fenced blocks in one language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", text(name), re.DOTALL)


def commands(name):
    """The lines of a document's bash blocks."""
    return [line for block in blocks(name, "bash") for line in block.splitlines()]


def links(name):
    """The files that a document links to, pictures among them."""
    return [target for target in re.findall(r"\]\((.*?)\)", text(name)) if "://" not in target]
