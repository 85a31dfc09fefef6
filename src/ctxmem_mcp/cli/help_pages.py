"""Prints the version, and the help of the command and of its subcommands from `help_pages.json`.

Loading the commands and rich would take most of a second. `docs/generate.py` writes the file from the commands.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from ctxmem_mcp import __version__

FILE = os.path.join(os.path.dirname(__file__), "help_pages.json")
FLAGS = ("-h", "--help")
# The options before a command that a value follows.
_FLAGS_WITH_VALUE = ("--data-dir", "--config")
# The command whose further words are another program's.
_WRAP, _WRAP_FLAGS_WITH_VALUE = "wrap", ("--budget", "-b")
_WIDTH_MIN, _WIDTH_MAX = 40, 100
# The widest column of names beside which their meaning starts on the same line.
_NAME_MAX = 24


def print_page(words: list[str]) -> bool:
    """Prints the page that these arguments ask for. Returns False if they ask for none that is known here."""
    if words == ["--version"]:
        sys.stdout.write(f"ctxmem-mcp {__version__}\n")
        return True
    options = _own_words(words)
    if not any(word in FLAGS for word in options):
        return False
    with open(FILE, encoding="utf-8") as file:
        pages = json.load(file)
    page = pages.get(_command(options))
    if page is None:
        return False
    width = max(_WIDTH_MIN, min(_WIDTH_MAX, shutil.get_terminal_size().columns - 1))
    sys.stdout.write("\n".join(_lines(page, width)) + "\n")
    return True


def _own_words(words: list[str]) -> list[str]:
    """The words before `--`, and of `wrap` those before the program that it runs."""
    own = words[: words.index("--")] if "--" in words else words
    if _command(own) != _WRAP:
        return own
    at = own.index(_WRAP) + 1
    while at < len(own) and own[at].startswith("-"):
        at += 2 if own[at] in _WRAP_FLAGS_WITH_VALUE else 1
    return own[:at]


def _command(words: list[str]) -> str:
    """The command, after the options before it; empty if there is none."""
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            return word
        if word in _FLAGS_WITH_VALUE:
            next(rest, None)
    return ""


def _lines(page: dict[str, Any], width: int) -> Iterator[str]:
    yield f"Usage: {page['usage']}"
    for paragraph in page["help"].split("\n\n"):
        yield ""
        yield from textwrap.wrap(paragraph, width)
    for heading, rows in page["sections"].items():
        yield ""
        yield f"{heading}:"
        column = min(_NAME_MAX, max(len(name) for name, _ in rows)) + 4
        for name, meaning in rows:
            yield from _row(name, meaning, column, width)


def _row(name: str, meaning: str, column: int, width: int) -> Iterator[str]:
    first, *rest = textwrap.wrap(meaning, width - column) or [""]
    if len(name) + 4 > column:
        yield f"  {name}"
        rest.insert(0, first)
    else:
        yield f"  {name:{column - 2}}{first}".rstrip()
    yield from (" " * column + line for line in rest)
