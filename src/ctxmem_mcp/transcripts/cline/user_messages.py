"""Attributes the text in Cline's user messages: to the user, whose words are in tags, to a tool, or to the host.

The tags and the headers of results are left out: the turn's role and name say the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from ctxmem_mcp.models import INJECTED, RECAP, NewTurn
from ctxmem_mcp.patterns import lazy_regex

_USER_TAGS = ("task", "feedback", "user_message", "answer", "user_input")
_ENVIRONMENT_TAG = "environment_details"
# Tags of the host. The content of a file that the user mentioned may hold any of the tags above.
_HOST_TAGS = (_ENVIRONMENT_TAG, "file_content", "folder_content", "url_content", "explicit_instructions")
_OPENING = lazy_regex(rf"<({'|'.join((*_USER_TAGS, *_HOST_TAGS))})(?:[ \t][^<>]*)?>")
# A header repeats its call's argument, which may have line ends. It ends at the first "] Result:": at a later one it
# would swallow everything between them.
_RESULT_HEADER = lazy_regex(r"\[([a-z]\w*)(?:\s(?:(?!\] Result:).)*)?\] Result:(?:\n|\Z)", re.DOTALL)
_WORKING_DIRECTORY = lazy_regex(r"^# Current (?:Working|Workspace) Directory \((.+)\) Files$", re.MULTILINE)
_RECAP_PREFIXES = ("This session is being continued from a previous conversation", "Context summary:")
# A text that is one element with an underscore in its tag: the host's.
_HOST_ELEMENT = lazy_regex(r"\s*<([a-z]+_[a-z_]+)[ >].*</\1>\s*", re.DOTALL)


class ResultHeader(NamedTuple):
    """A tool result in a text. line: the header; result: the text after it."""

    tool: str
    line: str
    result: str


@dataclass(frozen=True, slots=True)
class _Element:
    """An element with a tag of Cline's own: text[start:end], its inner text without the tags."""

    tag: str
    inner: str
    start: int
    end: int


def _elements(text: str) -> Iterator[_Element]:
    """Yields the outermost elements in order.

    A tag that is never closed is text, except for the environment's: it may be cut off.
    """
    at, unclosed = 0, set[str]()
    while opening := _OPENING.search(text, at):
        at, tag = opening.end(), opening[1]
        closing = -1 if tag in unclosed else _find_closing(text, tag, at)
        if closing < 0 and tag != _ENVIRONMENT_TAG:
            unclosed.add(tag)
            continue
        end = len(text) if closing < 0 else closing + len(tag) + 3
        yield _Element(tag, text[at : closing if closing >= 0 else end], opening.start(), end)
        at = end


def _find_closing(text: str, tag: str, at: int) -> int:
    """Returns the position of the closing tag, which whitespace or the end of the text follows; -1 if there is none."""
    closing = f"</{tag}>"
    found = text.find(closing, at)
    while found >= 0 and not text[found + len(closing) : found + len(closing) + 1].isspace():
        if found + len(closing) == len(text):
            break
        found = text.find(closing, found + 1)
    return found


def _strip_line_ends(inner: str) -> str:
    """Removes the line ends between the tags and the words."""
    return inner.removeprefix("\n").removesuffix("\n")


def has_user_tags(text: str) -> bool:
    """Returns whether some of the text is in tags that mark the user's words."""
    return any(element.tag in _USER_TAGS for element in _elements(text))


def working_directory(text: str) -> str | None:
    """Returns the folder that the environment details name."""
    found = _WORKING_DIRECTORY.search(text)
    return found[1] if found else None


def match_result_header(text: str) -> ResultHeader | None:
    """Returns the header that makes a text a tool's result; None if it has none."""
    found = _RESULT_HEADER.match(text)
    return ResultHeader(found[1], found[0], text[found.end() :]) if found else None


def turns_from_user_text(text: str, said_at: str | None, *, tagged: bool) -> Iterator[NewTurn]:
    """Yields the turns in a text that is no result.

    Args:
        text: the text.
        said_at: its time in ISO 8601.
        tagged: the user's words are in tags, so that all else is the host's.
    """
    at = 0
    for element in _elements(text):
        yield from _turns_outside(text[at : element.start], said_at, tagged)
        at = element.end
        if element.tag in _HOST_TAGS:
            yield NewTurn("system", text[element.start : element.end], INJECTED, said_at)
        elif words := _strip_line_ends(element.inner):
            yield NewTurn("user", words, None, said_at)
    yield from _turns_outside(text[at:], said_at, tagged)


def _turns_outside(text: str, said_at: str | None, tagged: bool) -> Iterator[NewTurn]:
    if not text.strip():
        return
    if text.lstrip().startswith(_RECAP_PREFIXES):
        yield NewTurn("system", text, RECAP, said_at)
    elif tagged or _HOST_ELEMENT.fullmatch(text):
        yield NewTurn("system", text.strip("\n"), INJECTED, said_at)
    else:
        yield NewTurn("user", text, None, said_at)


def turns_from_result(empty: NewTurn, text: str) -> Iterator[NewTurn]:
    """Yields a result, and after it the user's feedback, or the user's answer in its place.

    Args:
        empty: the result's turn without its text, or with no more than its header.
        text: the result.
    """
    answer = _whole_answer(text.strip())
    result, feedback = ("", answer) if answer is not None else _split_feedback(text)
    yield replace(empty, content=empty.content + result)
    if feedback:
        yield NewTurn("user", feedback, None, empty.said_at)


def _whole_answer(text: str) -> str | None:
    """Returns the user's words if a result is nothing else."""
    opening = _OPENING.match(text)
    if opening is None or opening[1] in _HOST_TAGS or not text.endswith(f"</{opening[1]}>"):
        return None
    return _strip_line_ends(text[opening.end() : len(text) - len(opening[1]) - 3])


def _split_feedback(result: str) -> tuple[str, str]:
    """Splits a result from the user's feedback, which may be empty.

    Feedback is at the end, after a line that announces it: a file that was read may hold such tags anywhere.
    """
    text = result.rstrip()
    for tag in ("feedback", "user_message"):
        at = text.rfind(f"\n<{tag}>\n") if text.endswith(f"</{tag}>") else -1
        if at >= 0 and "the user " in text[text.rfind("\n", 0, at) + 1 : at].lower():
            return text[:at], _strip_line_ends(text[at + len(tag) + 3 : len(text) - len(tag) - 3])
    return result, ""
