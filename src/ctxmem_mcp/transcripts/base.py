"""What every transcript format shares: the `Transcript` that parsers return and the protocol that they implement.

Parsers are pure: they turn a file's text into turns and do no I/O. A parser keeps every intact line and never fails on
a damaged one: it skips what it can't read and adds a warning.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ctxmem_mcp.models import INJECTED, NewTurn
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.text.host_text import is_recall_block

NumberedTurn = tuple[int, NewTurn]
"""A turn with the number of the line or message it comes from, counted from 1."""

# How much of a file its detection needs: a format shows in the first lines.
HEAD_CHARS = 200_000
# The first row of JSON Lines is part of the head as a whole up to this length.
_FIRST_ROW_CHARS_MAX = 20_000_000
# A longer JSON string is shortened to this length in the head: a picture must not hide the rows after it.
_HEAD_STRING_CHARS = 2_000
# A string on one line, closed or not. Every character is read once: an unclosed string is a match too.
_STRING = lazy_regex(r'"(?:[^"\\\n]++|\\.)*+"?')
# A string's beginning without the half of an escape, or of a surrogate pair, that a cut leaves.
_WHOLE_ESCAPES = lazy_regex(
    r'"(?:[^"\\]++|\\u(?![dD][89abAB])[0-9a-fA-F]{4}|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4}|\\[^u])*+'
)

ParseState = dict[str, Any]
"""The state of a resumable format at the end of the text it has parsed. It can be stored as JSON, and holds ids and
hashes but none of the text. Only the format that made it knows its fields."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """One session of an agent, or one conversation of a chat program.

    Attributes:
        agent: the program that wrote the file, as one word (`claude-code`).
        session_id: the session's id in that program; empty if the file names none.
        turns: the current branch of the conversation, oldest turn first.
        title: the session's title, if the file has one.
        threads: the sub-agents' conversations, each a transcript of its own. A file that holds several conversations
            is a transcript without turns whose threads are these conversations.
        abandoned_branches: the branches that the user rewound or edited away, each complete from its first turn.
        warnings: a message for each thing that was skipped or repaired, most with its line.
        cwd: the folder in which the session began.
        unread: how many rows or messages carry words that the parser does not understand.
    """

    agent: str
    session_id: str
    turns: tuple[NewTurn, ...]
    title: str | None = None
    threads: tuple[Transcript, ...] = ()
    abandoned_branches: tuple[tuple[NewTurn, ...], ...] = ()
    warnings: tuple[str, ...] = ()
    cwd: str | None = None
    unread: int = 0

    @property
    def all_warnings(self) -> tuple[str, ...]:
        """The warnings of this transcript and of its threads."""
        return self.warnings + tuple(warning for thread in self.threads for warning in thread.all_warnings)


Parser = Callable[[str, str], Transcript]
"""The type of `Format.parse`."""


class Format(Protocol):
    """A transcript format: a module, or a package whose `__init__` exports these two functions.

    To add a format, write such a module in `ctxmem_mcp/transcripts/` and add its name to `registry.FORMATS`, before
    every format whose `looks_like` would also accept its files.
    """

    def looks_like(self, name: str, head: str) -> bool:
        """Returns whether a file is in this format. It must not raise for any content.

        Args:
            name: the file's name, as `registry.name_for_parser` returns it.
            head: the beginning of the file, as `head_of` returns it; the last line may be cut off.
        """

    def parse(self, text: str, name: str) -> Transcript:
        """Returns the file's transcript. It skips what it can't read, with a warning (see `ParseLog`).

        Args:
            text: the whole file.
            name: the file's name, as `registry.name_for_parser` returns it. It may supply the session id if the
                text holds none.

        Raises:
            InvalidArgument: the file holds nothing in this format. Most formats return a transcript without turns
                instead.
        """


class ResumableFormat(Format, Protocol):
    """A format whose files only grow, so that appended lines can be parsed without those before them."""

    def parse_resumable(self, text: str, name: str) -> tuple[Transcript, ParseState]:
        """Returns what `parse` returns, and the state from which `resume` continues at the end of the text."""

    def resume(self, state: ParseState, text: str) -> tuple[tuple[NewTurn, ...], ParseState] | None:
        """Parses the lines that were appended to a file.

        Args:
            state: the state that `parse_resumable`, or the last `resume`, returned.
            text: the appended lines alone.

        Returns:
            The turns that follow those already known, and the new state; or None if the appended lines affect earlier
            turns, so that the whole file has to be parsed again.
        """


class ParseLog:
    """Collects a parser's warnings, and repairs the turns of every format alike."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.unread = 0

    def add_warning(self, line: int, message: str) -> None:
        """Adds a warning about a line (counted from 1)."""
        self.warnings.append(f"line {line}: {message}")

    def count_unread(self, unread: int, total: int) -> None:
        """Notes how many of the rows that carry words were not understood, with a warning if these are most of them."""
        self.unread = unread
        if unread * 2 > total:
            self.warnings.insert(0, f"{unread} of {total} rows were not understood")

    def sanitize(self, turns: Iterable[NumberedTurn]) -> tuple[NewTurn, ...]:
        """Returns the turns as they can be stored.

        Unpaired surrogates become U+FFFD, with a warning. A recall block in a user's turn becomes an injected system
        turn: it is ours, not the user's.
        """
        return tuple(self._replace_surrogates(line, _mark_injected(turn)) for line, turn in turns)

    def _replace_surrogates(self, line: int, turn: NewTurn) -> NewTurn:
        if _is_valid_unicode(turn.content) and _is_valid_unicode(turn.name) and _is_valid_unicode(turn.call_id):
            return turn
        self.add_warning(line, "replaced an unpaired surrogate with U+FFFD")
        return replace(
            turn,
            content=_to_valid_unicode(turn.content),
            name=None if turn.name is None else _to_valid_unicode(turn.name),
            call_id=None if turn.call_id is None else _to_valid_unicode(turn.call_id),
        )


def head_of(text: str) -> str:
    """Returns the beginning of a file for the detection of its format: `HEAD_CHARS` characters, or the first row if
    that is longer.

    Long JSON strings are shortened, so that a screenshot of 200 kB in the first message hides neither this message nor
    the next. A text of up to `HEAD_CHARS` characters is returned unchanged.
    """
    if len(text) <= HEAD_CHARS:
        return text
    row_end = _first_row_end(text)
    row = _STRING.sub(lambda string: _shorten(string[0]), text[:row_end])
    return row + _shortened(text, row_end, max(HEAD_CHARS - len(row), 0))


def _first_row_end(text: str) -> int:
    """Returns where the second row of JSON Lines begins; 0 if the text is in another form."""
    end = text.find("\n", 0, _FIRST_ROW_CHARS_MAX) + 1
    return end if text[end : end + 1] == "{" else 0


def _shortened(text: str, at: int, chars: int) -> str:
    """Returns this many characters from a place on, not counting what is left out of long strings."""
    parts: list[str] = []
    size = 0
    for string in _STRING.finditer(text, at):
        start, end = string.span()
        if size + start - at >= chars:
            break
        if end - start > _HEAD_STRING_CHARS:
            parts += [text[at:start], _shorten(string[0])]
            size += start - at + len(parts[-1])
            at = end
    return ("".join(parts) + text[at : at + chars])[:chars]


def _shorten(string: str) -> str:
    """Returns the beginning of a long JSON string as a string, closed if the original is; a short one unchanged."""
    if len(string) <= _HEAD_STRING_CHARS:
        return string
    kept = _WHOLE_ESCAPES.match(string[:_HEAD_STRING_CHARS])
    return (kept[0] if kept else '"') + ('"' if string.endswith('"') else "")


def split_lines(text: str) -> list[str]:
    """Returns a file's lines without their ends, whether these are Unix's or Windows'."""
    return text.replace("\r\n", "\n").split("\n")


def compact_json(value: Any) -> str:
    """Returns a value as JSON on one line, its keys in their order."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def text_or_json(value: Any) -> str:
    """Returns text unchanged and any other value as JSON."""
    return value if isinstance(value, str) else compact_json(value)


def _mark_injected(turn: NewTurn) -> NewTurn:
    is_ours = turn.role == "user" and is_recall_block(turn.content)
    return replace(turn, role="system", name=INJECTED) if is_ours else turn


def _is_valid_unicode(text: str | None) -> bool:
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        return False
    return True


def _to_valid_unicode(text: str) -> str:
    """Joins surrogates that form a pair; one without its other half becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
