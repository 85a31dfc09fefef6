"""Whose words Cline's user messages hold: the user's, which stand in tags, a tool's, and those the host put in.

What the tags, and the lines that head a result, say themselves is left out: the turn's role and name say it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ctxmem_mcp.models import INJECTED, RECAP, NewTurn

_WORDS = ("task", "feedback", "user_message", "answer", "user_input")
_DETAILS = "environment_details"
# What the host puts in. A file that the user mentioned may hold any of the tags above.
_HOSTS = (_DETAILS, "file_content", "folder_content", "url_content", "explicit_instructions")
_OPENED = re.compile(rf"<({'|'.join((*_WORDS, *_HOSTS))})(?:[ \t][^<>]*)?>")
# A header repeats its call's argument, which may have line ends; up to the first "] Result:", or a later one would take
# all between them with it.
_HEADED = re.compile(r"\[([a-z]\w*)(?:\s(?:(?!\] Result:).)*)?\] Result:(?:\n|\Z)", re.DOTALL)
_FOLDER = re.compile(r"^# Current (?:Working|Workspace) Directory \((.+)\) Files$", re.MULTILINE)
_RECAPS = ("This session is being continued from a previous conversation", "Context summary:")
_ELEMENT = re.compile(r"\s*<([a-z]+_[a-z_]+)[ >].*</\1>\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Element:
    """A tag of Cline's own, its text, and where it stands."""

    tag: str
    text: str
    start: int
    end: int


def _elements(text: str) -> Iterator[_Element]:
    """Those that stand in a text, in order, none within another. What is never closed is text, but for what the host
    tells of the environment: it may be cut off."""
    at, unclosed = 0, set[str]()
    while opened := _OPENED.search(text, at):
        at, tag = opened.end(), opened[1]
        closed = -1 if tag in unclosed else _closing(text, tag, at)
        if closed < 0 and tag != _DETAILS:
            unclosed.add(tag)
            continue
        end = len(text) if closed < 0 else closed + len(tag) + 3
        yield _Element(tag, text[at : closed if closed >= 0 else end], opened.start(), end)
        at = end


def _closing(text: str, tag: str, at: int) -> int:
    """Where a tag is closed, at the end of a word; -1 where it never is."""
    closing = f"</{tag}>"
    found = text.find(closing, at)
    while found >= 0 and not text[found + len(closing) : found + len(closing) + 1].isspace():
        if found + len(closing) == len(text):
            break
        found = text.find(closing, found + 1)
    return found


def _inner(text: str) -> str:
    """Without the line ends that stand between tags and words."""
    return text.removeprefix("\n").removesuffix("\n")


def is_wrapped(text: str) -> bool:
    return any(element.tag in _WORDS for element in _elements(text))


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
    for element in _elements(text):
        yield from _outside(text[at : element.start], said_at, tagged)
        at = element.end
        if element.tag in _HOSTS:
            yield NewTurn("system", text[element.start : element.end], INJECTED, said_at)
        elif words := _inner(element.text):
            yield NewTurn("user", words, None, said_at)
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
    answered = _answer(text.strip())
    said = ("", answered) if answered is not None else _said_to(text.rstrip())
    yield replace(empty, content=empty.content + (text if said is None else said[0]))
    if said and said[1]:
        yield NewTurn("user", said[1], None, empty.said_at)


def _answer(text: str) -> str | None:
    """The user's words where a result is nothing else."""
    opened = _OPENED.match(text)
    if opened is None or opened[1] in _HOSTS or not text.endswith(f"</{opened[1]}>"):
        return None
    return _inner(text[opened.end() : len(text) - len(opened[1]) - 3])


def _said_to(text: str) -> tuple[str, str] | None:
    """A result, and what the user said to it. That stands at the end, behind a line that says so: a file that was read
    may hold such tags anywhere."""
    for tag in ("feedback", "user_message"):
        at = text.rfind(f"\n<{tag}>\n") if text.endswith(f"</{tag}>") else -1
        if at >= 0 and "the user " in text[text.rfind("\n", 0, at) + 1 : at].lower():
            return text[:at], _inner(text[at + len(tag) + 3 : len(text) - len(tag) - 3])
    return None
