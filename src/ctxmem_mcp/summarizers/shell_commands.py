"""Reads what a shell command does: which line runs something, and whether it only prints text that existed. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ctxmem_mcp.patterns import lazy_regex

_HEREDOC = lazy_regex(r"(<<-?\s*(['\"]?)(\w+)\2[^\n]*)\n.*?(?:^\s*\3\s*$|\Z)", re.S | re.M)
_QUOTED = lazy_regex(r"'[^']*'|\"(?:\\.|[^\"\\])*\"", re.S)
_SEPARATOR = lazy_regex(r"\n|&&|\|\||;")
_TO_FILE = lazy_regex(r"(?<![\d&=-])>>?\s*(?!&|/dev/)\S")
_PREFIXES = frozenset("do then else time sudo ! { (".split())
# These words open or close a loop, or change the shell only.
_SILENT = frozenset("for done if fi while until case esac cd export set true false sleep wait : } )".split())
# These commands print existing text: an error in their output is not an error of this run.
_PRINTING = frozenset("grep rg ag cat bat head tail less sed awk find ls tree jq diff wc echo printf man".split())
_PRINTING_GIT = frozenset("diff log show status blame grep branch ls-files ls-tree config".split())


def only_prints(command: str) -> bool:
    """Returns whether each part of a command prints existing text, and none runs or writes anything."""
    parts = [words for part in _parts(command) if (words := _words(part)) and words[0] not in _SILENT]
    return bool(parts) and all(_prints(words) for words in parts)


def main_line(command: str) -> str:
    """Returns the first line that does more than write a file: the run after `cat > test.py <<EOF`."""
    lines = [line for line in _HEREDOC.sub(r"\1", command).split("\n") if line.strip()]
    for line in lines:
        if any(words[0] not in _SILENT and not _writes_text(words) for part in _parts(line) if (words := _words(part))):
            return line
    return lines[0] if lines else ""


def _parts(command: str) -> Iterator[str]:
    """The commands that are run one after the other, without heredocs; a quoted text counts as one word."""
    yield from _SEPARATOR.split(_QUOTED.sub('""', _HEREDOC.sub(r"\1", command)))


def _words(part: str) -> list[str]:
    words = part.split()
    while words and words[0] in _PREFIXES:
        del words[0]
    return words


def _prints(words: list[str]) -> bool:
    if _writes_text(words):
        return False
    return words[0] in _PRINTING or (words[0] == "git" and len(words) > 1 and words[1] in _PRINTING_GIT)


def _writes_text(words: list[str]) -> bool:
    return words[0] in ("cat", "echo", "printf", "tee") and bool(_TO_FILE.search(" ".join(words)))
