"""aider's chat history: one markdown file, to which every session in a folder is appended.

`#### ` begins a user's line, `> ` a line of aider's own; all else is the model's. The lines that aider writes end with
two spaces, which distinguishes them from headings and quotes in a reply. These marks, and the blank lines around a
reply, are left out. A message of aider's in several lines has the mark on its first line and the spaces on its last.
aider's lines (commits, failed edits, errors, output of commands) are turns of a tool named `aider`. A model's thoughts
are assistant turns named `thinking`. The only time in the file is that at which a session began: all its turns have it.
The sessions follow each other in one transcript.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from ctxmem_mcp.models import THINKING, NewTurn
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.transcripts.base import NumberedTurn, ParseLog, Transcript, split_lines
from ctxmem_mcp.transcripts.json_lines import timestamp_or_none

AGENT = "aider"
_SESSION_START = lazy_regex(r"# aider chat started at (.+?)\s*")
# The reasoning of models that think aloud, in a tag of aider's own.
_THOUGHT = lazy_regex(r"<(thinking-content-\w+)>(.*?)</\1>", re.DOTALL)
_USER, _HOST, _MODEL, _START = "user", "host", "model", "start"
_MARKS = {_USER: "#### ", _HOST: "> "}
_LINE_END = "  "

_Line = tuple[int, str, str]
"""A line's number (from 0), its author, and its text without marks."""


def looks_like(name: str, head: str) -> bool:
    """Recognises markdown with the heading of a session near its beginning."""
    return name.endswith((".md", ".markdown")) and any(_SESSION_START.fullmatch(line) for line in head.split("\n")[:50])


def parse(text: str, name: str) -> Transcript:
    """Returns all sessions of the file, one after the other."""
    log = ParseLog()
    lines = split_lines(text)
    if not any(line.startswith(_MARKS[_USER]) and line.endswith(_LINE_END) for line in lines):
        # An editor or a repository's formatter removed the spaces at line ends; the marks alone have to do.
        lines = [line + _LINE_END if f"{line} ".startswith(tuple(_MARKS.values())) else line for line in lines]
    turns = log.sanitize(_turns([*_attribute_lines(lines)]))
    return Transcript(AGENT, "", turns, warnings=tuple(log.warnings))


def _turns(lines: list[_Line]) -> Iterator[NumberedTurn]:
    said_at = None
    for author, group in groupby(lines, key=lambda line: line[1]):
        run = [*group]
        number, texts = run[0][0] + 1, [text for _, _, text in run]
        if author == _START:
            start = _SESSION_START.fullmatch(texts[-1])
            said_at = timestamp_or_none(start[1]) if start else None
        elif author == _USER:
            yield number, NewTurn("user", "\n".join(texts), None, said_at)
        elif author == _HOST:
            yield number, NewTurn("tool", "\n".join(texts), AGENT, said_at)
        elif reply := "\n".join(texts).strip("\n"):
            yield from ((number, turn) for turn in _turns_from_reply(reply, said_at))


def _turns_from_reply(reply: str, said_at: str | None) -> Iterator[NewTurn]:
    thought = _THOUGHT.match(reply)
    if thought and thought[2].strip():
        yield NewTurn("assistant", thought[2].strip("\n"), THINKING, said_at)
    if words := reply[thought.end() :].strip("\n") if thought else reply:
        yield NewTurn("assistant", words, None, said_at)


# ---------------------------------------------------------------- authors of lines


def _attribute_lines(lines: list[str]) -> Iterator[_Line]:
    at, before = 0, _START
    while at < len(lines):
        author, stop = _author_of(lines, at, before), at + 1
        if author == _HOST:
            stop = _message_end(lines, at) or stop
        for i in range(at, stop):
            yield i, author, _strip_marks(lines[i], _MARKS.get(author, ""), i == at, i == stop - 1)
        # Blank lines are around replies and before requests; within a reply they are part of it.
        before = _START if author == _MODEL and not lines[at].strip() else author
        at = stop


def _strip_marks(line: str, mark: str, is_first: bool, is_last: bool) -> str:
    """Returns a line of a message without the marks. On a blank line the mark has no space after it."""
    text = line.removesuffix(_LINE_END) if mark and is_last else line
    return text.removeprefix(mark if text.startswith(mark) else mark.rstrip()) if mark and is_first else text


def _author_of(lines: list[str], at: int, before: str) -> str:
    """Returns a line's author. before: the author of the line before it; _START if it is blank or starts a session."""
    line = lines[at]
    if _SESSION_START.fullmatch(line):
        return _START
    if line.startswith("####") and line.endswith(_LINE_END) and before in (_USER, _START) and line[4:5] == " ":
        return _USER
    if line.startswith("> ") and before != _MODEL:
        is_one_line = line.endswith(_LINE_END)
        if is_one_line or (before in (_USER, _HOST) and _message_end(lines, at)):
            return _HOST
    return _MODEL


def _message_end(lines: list[str], at: int) -> int | None:
    """Returns the line after aider's message, which ends with two spaces before a blank line or a line of aider's."""
    for i in range(at, len(lines)):
        following = lines[i + 1] if i + 1 < len(lines) else ""
        if lines[i].endswith(_LINE_END) and (not following.strip() or following.startswith("> ")):
            return i + 1
        if _SESSION_START.fullmatch(following):
            return None
    return None
