"""aider's chat history: one markdown file that every session in a folder is appended to.

`#### ` begins a user's line, `> ` a line of aider's own, all else is the model's. What aider writes itself ends with
two spaces, by which its lines are told from headings and quotes in a reply; these marks, and the blank lines around a
reply, are left out. A message of aider's in several lines has the mark on its first and the spaces on its last. Its
lines (commits, edits that failed, errors, output of commands) are turns of a tool called 'aider'. Thoughts aloud are
assistant turns named 'thinking'. The file names no time but that at which a session began: its turns have that one.
Sessions follow each other in one transcript.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from ctxmem_mcp.models import THINKING, NewTurn
from ctxmem_mcp.transcripts.base import Notes, Transcript, lines_of
from ctxmem_mcp.transcripts.json_lines import instant_of

AGENT = "aider"
_BEGAN = re.compile(r"# aider chat started at (.+?)\s*")
# Reasoning of models that think aloud, in a tag of aider's own.
_THOUGHT = re.compile(r"<(thinking-content-\w+)>(.*?)</\1>", re.DOTALL)
_USER, _HOST, _MODEL, _START = "user", "host", "model", "start"
_MARKS = {_USER: "#### ", _HOST: "> "}
_WRITTEN = "  "

# A line's number (from 0), whose it is, and it.
_Line = tuple[int, str, str]


def looks_like(name: str, head: str) -> bool:
    return name.endswith((".md", ".markdown")) and any(_BEGAN.fullmatch(line) for line in head.split("\n")[:50])


def parse(text: str, name: str) -> Transcript:
    """All sessions of the file, one after the other."""
    notes = Notes()
    turns = notes.mended(_turns([*_lines(lines_of(text))]))
    return Transcript(AGENT, "", turns, warnings=tuple(notes.warnings))


def _turns(lines: list[_Line]) -> Iterator[tuple[int, NewTurn]]:
    began = None
    for whose, group in groupby(lines, key=lambda line: line[1]):
        stretch = [*group]
        number, said = stretch[0][0] + 1, [line for _, _, line in stretch]
        if whose == _START:
            found = _BEGAN.fullmatch(said[-1])
            began = instant_of(found[1]) if found else None
        elif whose == _USER:
            yield number, NewTurn("user", "\n".join(said), None, began)
        elif whose == _HOST:
            yield number, NewTurn("tool", "\n".join(said), AGENT, began)
        elif reply := "\n".join(said).strip("\n"):
            yield from ((number, turn) for turn in _replied(reply, began))


def _replied(reply: str, began: str | None) -> Iterator[NewTurn]:
    thought = _THOUGHT.match(reply)
    if thought and thought[2].strip():
        yield NewTurn("assistant", thought[2].strip("\n"), THINKING, began)
    if said := reply[thought.end() :].strip("\n") if thought else reply:
        yield NewTurn("assistant", said, None, began)


# ---------------------------------------------------------------- whose a line is


def _lines(lines: list[str]) -> Iterator[_Line]:
    at, before = 0, _START
    while at < len(lines):
        whose, stop = _whose(lines, at, before), at + 1
        if whose == _HOST:
            stop = _end_of_message(lines, at) or stop
        for i in range(at, stop):
            yield i, whose, _less_marks(lines[i], _MARKS.get(whose, ""), i == at, i == stop - 1)
        # Blank lines stand around replies and before requests; in a reply they are part of it.
        before = _START if whose == _MODEL and not lines[at].strip() else whose
        at = stop


def _less_marks(line: str, mark: str, first: bool, last: bool) -> str:
    """A line as it was said. A blank one keeps only the mark's beginning."""
    said = line.removesuffix(_WRITTEN) if mark and last else line
    return said.removeprefix(mark if said.startswith(mark) else mark.rstrip()) if mark and first else said


def _whose(lines: list[str], at: int, before: str) -> str:
    """before: whose the line before is; _START where that is blank or begins a session."""
    line = lines[at]
    if _BEGAN.fullmatch(line):
        return _START
    if line.startswith("####") and line.endswith(_WRITTEN) and before in (_USER, _START) and line[4:5] == " ":
        return _USER
    if line.startswith("> ") and before != _MODEL:
        written = line.endswith(_WRITTEN)
        if written or (before in (_USER, _HOST) and _end_of_message(lines, at)):
            return _HOST
    return _MODEL


def _end_of_message(lines: list[str], at: int) -> int | None:
    """Behind the line that ends aider's message: two spaces, then nothing or a line of aider's own."""
    for i in range(at, len(lines)):
        following = lines[i + 1] if i + 1 < len(lines) else ""
        if lines[i].endswith(_WRITTEN) and (not following.strip() or following.startswith("> ")):
            return i + 1
        if _BEGAN.fullmatch(following):
            return None
    return None
