"""What a transcript is, whoever wrote it, and what every parser gives. Parsers are pure: text in, turns out.

A parser never loses a good line and never stops at a broken one: what it can't read it leaves out and says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ctxmem_mcp.models import INJECTED, NewTurn

# Between these stands what we put into a session's context ourselves.
RECALLED, RECALLED_END = "[ctxmem-mcp recalls]", "[ctxmem-mcp: end of what was recalled]"
# Hosts put a few words of theirs before it.
_RECALLED_WITHIN_CHARS = 200


def is_recalled(text: str) -> bool:
    """Whether a text is one that we put there."""
    return RECALLED in text[:_RECALLED_WITHIN_CHARS] and RECALLED_END in text


@dataclass(frozen=True, slots=True)
class Transcript:
    """One agent's session. threads: what its sub-agents said, each a transcript of its own.

    left: the ways that the session was rewound from, each whole, from its first turn.
    agent: the program, as a word ("claude-code"). session_id: as it names it, empty when it does not.
    warnings: what was left out or mended, each with its line. cwd: the folder it was begun in.
    """

    agent: str
    session_id: str
    turns: tuple[NewTurn, ...]
    title: str | None = None
    threads: tuple[Transcript, ...] = ()
    left: tuple[tuple[NewTurn, ...], ...] = ()
    warnings: tuple[str, ...] = field(default=())
    cwd: str | None = None

    @property
    def all_warnings(self) -> tuple[str, ...]:
        return self.warnings + tuple(warning for thread in self.threads for warning in thread.all_warnings)


Parser = Callable[[str, str], Transcript]
"""A parser takes a file's text and its name (for a session id, where the text has none)."""


class Notes:
    """What a parser has to say, and the mending that every parser does: text that is not valid Unicode, and what we
    put into the session ourselves, which is nobody's words."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, line: int, what: str) -> None:
        self.warnings.append(f"line {line}: {what}")

    def mended(self, turns: Iterable[tuple[int, NewTurn]]) -> tuple[NewTurn, ...]:
        """The turns, each with the line it came from; half surrogate pairs become U+FFFD, with a warning."""
        return tuple(self._mended(line, _less_ours(turn)) for line, turn in turns)

    def _mended(self, line: int, turn: NewTurn) -> NewTurn:
        if _is_valid(turn.content) and _is_valid(turn.name or "") and _is_valid(turn.call_id or ""):
            return turn
        self.warn(line, "half a surrogate pair was replaced by U+FFFD")
        return replace(
            turn,
            content=_valid(turn.content),
            name=None if turn.name is None else _valid(turn.name),
            call_id=None if turn.call_id is None else _valid(turn.call_id),
        )


def _less_ours(turn: NewTurn) -> NewTurn:
    ours = turn.role == "user" and is_recalled(turn.content)
    return replace(turn, role="system", name=INJECTED) if ours else turn


def _is_valid(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _valid(text: str) -> str:
    """Surrogates that make a pair joined, those that stand alone as U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def lines_of(text: str) -> list[str]:
    """A text file's lines; their ends are Windows' or not, and no part of what was said."""
    return text.replace("\r\n", "\n").split("\n")


def compact(value: Any) -> str:
    """A value as JSON on one line, in the order it came."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
