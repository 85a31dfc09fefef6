"""Cursor's older transcripts, as text: `user:` or `assistant:` alone on a line begins a message.

In a reply `[Thinking]`, `[Tool call] NAME` and `[Tool result] NAME` begin parts. A thought ends at an empty line; a
call's arguments, a result's text, are the indented lines behind the mark, as they stand. All else is the agent's words:
the format does not mark where they begin. Results are mostly without text. A call is named by its number ('call-2').
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import PurePosixPath

from ctxmem_mcp.models import THINKING, NewTurn
from ctxmem_mcp.transcripts.base import Notes, Transcript, lines_of
from ctxmem_mcp.transcripts.cursor.message_lines import AGENT, turns_of_message

_SPEAKERS = ("user:", "assistant:")
_MARK = re.compile(r"\[(Thinking|Tool call|Tool result)\](?: (.*))?")


def looks_like(name: str, head: str) -> bool:
    first = next((line for line in head.split("\n") if line.strip()), "")
    return name.endswith(".txt") and first.rstrip() in _SPEAKERS


def parse(text: str, name: str) -> Transcript:
    """The file's messages in order; its name is the conversation's id."""
    notes = Notes()
    turns = notes.mended(_turns(lines_of(text)))
    return Transcript(AGENT, PurePosixPath(name).stem, turns, warnings=tuple(notes.warnings))


def _turns(lines: list[str]) -> Iterator[tuple[int, NewTurn]]:
    starts = [i for i, line in enumerate(lines) if line.rstrip() in _SPEAKERS]
    replies = _Replies()
    for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True):
        said = lines[start + 1 : stop]
        if lines[start].rstrip() == "user:":
            words = "\n".join(said).strip("\n")
            told: Iterator[NewTurn] = turns_of_message([NewTurn("user", words)])
        else:
            told = replies.turns(said)
        yield from ((start + 1, turn) for turn in told)


class _Replies:
    """Reads replies in order. waiting: calls whose results did not come yet."""

    def __init__(self) -> None:
        self._calls = 0
        self._waiting: list[NewTurn] = []

    def turns(self, lines: list[str]) -> Iterator[NewTurn]:
        at, words = 0, list[str]()
        while at < len(lines):
            mark = _MARK.fullmatch(lines[at].rstrip())
            if mark is None:
                words.append(lines[at])
                at += 1
                continue
            yield from _words(words)
            words = []
            body = [*takewhile(_of_thought if mark[1] == "Thinking" else _is_indented, lines[at + 1 :])]
            part = self._part(mark[1], mark[2] or "", body)
            if part.content or part.call_id:
                yield part
            at += 1 + len(body)
        yield from _words(words)

    def _part(self, kind: str, rest: str, body: list[str]) -> NewTurn:
        if kind == "Thinking":
            return NewTurn("assistant", "\n".join([rest, *body]).strip("\n"), THINKING)
        name, text = rest.strip() or "tool", "\n".join(body)
        if kind == "Tool call":
            self._calls += 1
            self._waiting.append(NewTurn("assistant", text, name, None, f"call-{self._calls}"))
            return self._waiting[-1]
        call = next((call for call in self._waiting if call.name == name), None)
        if call:
            self._waiting.remove(call)
        return NewTurn("tool", text, name, None, call.call_id if call else None)


def _of_thought(line: str) -> bool:
    return bool(line.strip()) and not _MARK.fullmatch(line.rstrip())


def _is_indented(line: str) -> bool:
    return line.startswith((" ", "\t")) and bool(line.strip())


def _words(lines: list[str]) -> Iterator[NewTurn]:
    if said := "\n".join(lines).strip("\n"):
        yield NewTurn("assistant", said)
