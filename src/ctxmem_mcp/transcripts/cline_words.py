"""Whose words Cline's user messages hold: the user's, which stand in tags, a tool's, and those the host put in.

What the tags, and the lines that head a result, say themselves is left out: the turn's role and name say it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from ctxmem_mcp.model import NewTurn
from ctxmem_mcp.transcripts.contract import INJECTED, RECAP

_WRAPPED = re.compile(
    r"<(task|feedback|user_message|answer|user_input)(?:[ \t][^<>]*)?>\n?(?P<words>.*?)\n?</\1>(?=\s|\Z)", re.DOTALL
)
_DETAILS = re.compile(r"<environment_details>.*?(?:</environment_details>|\Z)", re.DOTALL)
_HEADED = re.compile(r"\[(\w+)(?:\s.*?)?\] Result:(?:\n|\Z)", re.DOTALL)
# What the user said to a result stands at its end, behind a line that says so; a file that was read may hold such tags
# anywhere.
_SAID_TO = re.compile(
    r"^([^\n]*\b[Tt]he user\b[^\n]*)\n<(feedback|user_message)>\n?(?P<words>.*?)\n?</\2>\s*\Z", re.DOTALL | re.MULTILINE
)
_FOLDER = re.compile(r"^# Current (?:Working|Workspace) Directory \((.+)\) Files$", re.MULTILINE)
_RECAPS = ("This session is being continued from a previous conversation", "Context summary:")
_ELEMENT = re.compile(r"\s*<([a-z]+_[a-z_]+)[ >].*</\1>\s*", re.DOTALL)


def is_wrapped(text: str) -> bool:
    return _WRAPPED.search(text) is not None


def folder_in(text: str) -> str | None:
    """The folder that the host says it works in."""
    found = _FOLDER.search(text)
    return found[1] if found else None


def headed(text: str) -> tuple[str, str, str] | None:
    """The tool whose result a text is, the line that says so, and the result; None where it is none."""
    found = _HEADED.match(text)
    return (found[1], found[0], text[found.end() :]) if found else None


def turns_of_said(text: str, said_at: str | None, *, tagged: bool) -> Iterator[NewTurn]:
    """A text that is no result. tagged: the user's words are in tags, so that what is outside of them is the
    host's."""
    at = 0
    for found in re.compile(f"{_WRAPPED.pattern}|{_DETAILS.pattern}", re.DOTALL).finditer(text):
        yield from _outside(text[at : found.start()], said_at, tagged)
        at = found.end()
        if found["words"] is None:
            yield NewTurn("system", found[0], INJECTED, said_at)
        elif found["words"]:
            yield NewTurn("user", found["words"], None, said_at)
    yield from _outside(text[at:], said_at, tagged)


def _outside(text: str, said_at: str | None, tagged: bool) -> Iterator[NewTurn]:
    if not text.strip():
        return
    if text.lstrip().startswith(_RECAPS):
        yield NewTurn("system", text, RECAP, said_at)
    elif tagged or _ELEMENT.fullmatch(text):
        yield NewTurn("system", text.strip("\n"), INJECTED, said_at)
    else:
        yield NewTurn("user", text, None, said_at)


def turns_of_result(empty: NewTurn, text: str) -> Iterator[NewTurn]:
    """A result, and what the user said to it or instead of it. empty: the turn without its text, or with the line that
    heads it."""
    answered = _WRAPPED.fullmatch(text.strip())
    said = answered or _SAID_TO.search(text)
    yield replace(empty, content=empty.content + ("" if answered else text[: said.end(1)] if said else text))
    if said and said["words"]:
        yield NewTurn("user", said["words"], None, empty.said_at)
