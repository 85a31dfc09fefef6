"""Cursor's older transcripts, as text: a line that is `user:` or `assistant:` begins a message.

In a reply the marks `[Thinking]`, `[Tool call] NAME` and `[Tool result] NAME` begin parts. A thought ends at an empty
line; a call's arguments and a result's text are the indented lines after the mark, unchanged. All else is the agent's
words: the format does not mark where they begin. Most results have no text. Calls have no ids and are numbered
(`call-2`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from pathlib import PurePosixPath

from ctxmem_mcp.models import THINKING, NewTurn
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.transcripts.base import NumberedTurn, ParseLog, Transcript, split_lines
from ctxmem_mcp.transcripts.cursor.jsonl_transcript import AGENT, split_user_message

_SPEAKERS = ("user:", "assistant:")
_THOUGHT, _CALL = "Thinking", "Tool call"
_MARK = lazy_regex(rf"\[({_THOUGHT}|{_CALL}|Tool result)\](?: (.*))?")


def looks_like(name: str, head: str) -> bool:
    """Recognises a text file whose first line names a speaker."""
    first = next((line for line in head.split("\n") if line.strip()), "")
    return name.endswith(".txt") and first.rstrip() in _SPEAKERS


def parse(text: str, name: str) -> Transcript:
    """Returns the conversation in a file, which is named after its id."""
    log = ParseLog()
    turns = log.sanitize(_turns(split_lines(text)))
    return Transcript(AGENT, PurePosixPath(name).stem, turns, warnings=tuple(log.warnings))


def _turns(lines: list[str]) -> Iterator[NumberedTurn]:
    starts = [i for i, line in enumerate(lines) if line.rstrip() in _SPEAKERS]
    replies = _ReplyReader()
    for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True):
        message = lines[start + 1 : stop]
        if lines[start].rstrip() == "user:":
            turns: Iterator[NewTurn] = split_user_message([NewTurn("user", "\n".join(message).strip("\n"))])
        else:
            turns = replies.turns(message)
        yield from ((start + 1, turn) for turn in turns)


class _ReplyReader:
    """Reads replies in order and pairs results with calls."""

    def __init__(self) -> None:
        self._calls = 0
        self._pending: list[NewTurn] = []  # calls that have no result yet

    def turns(self, lines: list[str]) -> Iterator[NewTurn]:
        at, words = 0, list[str]()
        while at < len(lines):
            mark = _MARK.fullmatch(lines[at].rstrip())
            if mark is None:
                words.append(lines[at])
                at += 1
                continue
            yield from _spoken_turn(words)
            words = []
            body = [*takewhile(_continues_thought if mark[1] == _THOUGHT else _is_indented, lines[at + 1 :])]
            turn = self._marked_turn(mark[1], mark[2] or "", body)
            if turn.content or turn.call_id:
                yield turn
            at += 1 + len(body)
        yield from _spoken_turn(words)

    def _marked_turn(self, kind: str, rest: str, body: list[str]) -> NewTurn:
        if kind == _THOUGHT:
            return NewTurn("assistant", "\n".join([rest, *body]).strip("\n"), THINKING)
        name, text = rest.strip() or "tool", "\n".join(body)
        if kind == _CALL:
            self._calls += 1
            self._pending.append(NewTurn("assistant", text, name, None, f"call-{self._calls}"))
            return self._pending[-1]
        call = next((call for call in self._pending if call.name == name), None)
        if call:
            self._pending.remove(call)
        return NewTurn("tool", text, name, None, call.call_id if call else None)


def _continues_thought(line: str) -> bool:
    return bool(line.strip()) and not _MARK.fullmatch(line.rstrip())


def _is_indented(line: str) -> bool:
    return line.startswith((" ", "\t")) and bool(line.strip())


def _spoken_turn(lines: list[str]) -> Iterator[NewTurn]:
    if words := "\n".join(lines).strip("\n"):
        yield NewTurn("assistant", words)
