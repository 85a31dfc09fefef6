"""The values that the layers exchange: plain, frozen, without I/O and without a clock.

Ids as people and models see them are a position and a check, both determined by content:

    t41-837261940512       the turn at index 41 of its branch; digits of the hash of it and all turns before it
    n40-55-213987001245    the closed node over turns 40..55; digits of the hash of its children
    t42-t47                a span of turns on the head's branch (a gap in a view)
    t42-t47-640            a span on the branch of its last turn

Any unambiguous prefix of the digits is accepted; views show three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import Enum
from operator import attrgetter
from typing import Literal, NamedTuple, TypeVar

from ctxmem_mcp.patterns import lazy_regex

T = TypeVar("T")

Role = Literal["user", "assistant", "system", "tool"]
ROLES: tuple[Role, ...] = ("user", "assistant", "system", "tool")
# Names of turns not spoken by user or assistant: host-injected text, compaction summaries, reasoning.
INJECTED, RECAP, THINKING = "injected", "recap", "thinking"
# Separates a session's id from its sub-agent's name in the sub-agent's conversation id.
OF_AGENT = ":"

DIGEST_BYTES = 16
ID_DIGITS = 12
SHORT_DIGITS = 3
RETENTION_DAYS_DEFAULT = 30
RETENTION_DAYS_MIN, RETENTION_DAYS_MAX = 1, 365
TITLE_CHARS_MAX = 200

# A flag of turns; the flags are bits, see also instructions.STANDING.
REDACTED = 2
_REDACTED_TEXT = lazy_regex(r"\[redacted \d{4}-\d{2}-\d{2}\]")

# Python accepts any character between date and time, and the time is printed in the line above a turn's text.
_TIME_CHARS = lazy_regex(r"[0-9WTtZz:.,+ -]+")


def id_digits(digest: bytes) -> str:
    """Returns twelve decimal digits of a digest; decimal, because tokenizers read three digits as one token."""
    return f"{int.from_bytes(digest[:8], 'big') % 10**ID_DIGITS:0{ID_DIGITS}d}"


def iso(seconds: float) -> str:
    """Formats an instant (seconds since 1970) as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def redacted_text(day: str) -> str:
    """Returns what is stored in the place of a redacted turn's content. day: ISO 8601."""
    return f"[redacted {day}]"


def is_redacted_text(content: str) -> bool:
    return _REDACTED_TEXT.fullmatch(content) is not None


def day_of(instant: float) -> int:
    """Returns the day (in UTC, counted from 1970) of an instant (seconds since 1970)."""
    return int(instant // 86_400)


def parse_iso(said_at: str | None) -> float | None:
    """Parses an ISO 8601 time, in UTC unless it names a zone.

    Returns:
        Seconds since 1970; None if the time is None or unreadable.
    """
    if said_at is None or not _TIME_CHARS.fullmatch(said_at):
        return None
    try:
        when = datetime.fromisoformat(said_at)
        return (when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):  # overflow: year 1 or 9999 here, outside the calendar in UTC
        return None


class Source(Enum):
    """Where synced turns come from, which decides how forgotten ones are recognised.

    MESSAGES: The caller's messages. A conversation's id may be used again after it was forgotten, for new messages.
    TRANSCRIPT: A recording of a session. A session that was forgotten is never stored from it.
    EVENTS: What a session's hooks recorded, often without its beginning. As for a transcript, its id decides.
    """

    MESSAGES = "messages"
    TRANSCRIPT = "transcript"
    EVENTS = "events"


def pickled_by_fields(cls: type[T]) -> type[T]:
    """Decorates a slotted dataclass of two or more fields, so that pickling reads them in C.

    By default a Python function does, one field after the other: sending short turns to a worker took as long as
    counting them.
    """
    read: Callable[[T], tuple[object, ...]] = attrgetter(*(f.name for f in fields(cls)))  # type: ignore[arg-type]

    def reduce(self: T) -> tuple[type[T], tuple[object, ...]]:
        return cls, read(self)

    cls.__reduce__ = reduce  # type: ignore[assignment,method-assign]
    return cls


@dataclass(frozen=True, slots=True)
class Redaction:
    """The remains of a redacted turn, so that it keeps its id.

    Attributes:
        digest: The turn's digest.
        after: The digest of the turn before it; empty for a first turn.
    """

    digest: bytes
    after: bytes


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class NewTurn:
    """A turn to append.

    Attributes:
        said_at: ISO 8601 or None.
        call_id: Pairs a tool call with its result.
        redaction: If its content was redacted, what it is recognised by.
    """

    role: Role
    content: str
    name: str | None = None
    said_at: str | None = None
    call_id: str | None = None
    redaction: Redaction | None = None

    @property
    def is_redacted(self) -> bool:
        return self.redaction is not None

    @property
    def redacted_digest(self) -> bytes | None:
        """The digest of what it was, if it is redacted."""
        return self.redaction.digest if self.redaction else None


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Turn:
    """A stored turn.

    Attributes:
        seq: its number in the store (1, 2, ...).
        index: its position on its branch (0, 1, ...).
        stored_at: when it was stored, in seconds since 1970.
        language: ISO 639-1 code of the language that it is written in; None if unknown.
        flags: bits, such as instructions.STANDING and REDACTED.
    """

    seq: int
    index: int
    digest: bytes
    role: Role
    content: str
    name: str | None
    said_at: str | None
    call_id: str | None
    tokens: int
    stored_at: float = 0.0
    language: str | None = None
    flags: int = 0

    @property
    def id(self) -> str:
        return f"t{self.index}-{id_digits(self.digest)}"

    @property
    def short(self) -> str:
        return f"t{self.index}-{self.check}"

    @property
    def check(self) -> str:
        """The first digits of its id, as views show them."""
        return id_digits(self.digest)[:SHORT_DIGITS]

    @property
    def is_redacted(self) -> bool:
        return bool(self.flags & REDACTED)

    @property
    def redacted_digest(self) -> bytes | None:
        """Its digest, if it is redacted."""
        return self.digest if self.is_redacted else None


def to_new_turns(turns: Iterable[Turn], after: bytes = b"") -> list[NewTurn]:
    """Returns stored turns, each following the one before, as turns to append elsewhere.

    Args:
        turns: The turns.
        after: The digest of the turn before the first one; empty at the start.
    """
    new = []
    for turn in turns:
        redaction = Redaction(turn.digest, after) if turn.is_redacted else None
        new.append(NewTurn(turn.role, turn.content, turn.name, turn.said_at, turn.call_id, redaction))
        after = turn.digest
    return new


def is_tool_call(turn: NewTurn | Turn) -> bool:
    """Returns whether the turn is a tool call, whose content is its arguments, most often as JSON."""
    return turn.role == "assistant" and bool(turn.name) and turn.name != THINKING


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Node:
    """A closed node over turns first..last (indexes, inclusive). Level 0 is a leaf, whose children are turns.

    Attributes:
        strength: of the border before it: 0 = only the size limit, 1 = a new request or topic, 2 = a long pause.
        children: digests of the child nodes; empty for a leaf.
    """

    digest: bytes
    level: int
    first: int
    last: int
    tokens: int
    strength: int
    children: tuple[bytes, ...] = ()

    @property
    def turns(self) -> int:
        return self.last - self.first + 1

    @property
    def id(self) -> str:
        return f"n{self.first}-{self.last}-{id_digits(self.digest)}"

    @property
    def short(self) -> str:
        return f"n{self.first}-{self.last}-{id_digits(self.digest)[:SHORT_DIGITS]}"


class Piece(NamedTuple):
    """A chunk of one turn, ranked and shown as a unit: characters start..stop of its content.

    A tuple, because hundreds are read for each query and a frozen dataclass takes ten times as long.

    Attributes:
        id: 1, 2, ... in store order.
        seq, index, role, name, said_at: those of its turn.
        words: the number of analysed terms in it.
        flags: see chunk_flags.Flag.
        leaf, sitting: index of the first turn of its section, and of its sitting.
    """

    id: int
    seq: int
    index: int  # type: ignore[assignment]
    start: int
    stop: int
    tokens: int
    words: int
    flags: int
    leaf: int
    sitting: int
    role: Role
    name: str | None
    said_at: str | None


HighlightKind = Literal["request", "error", "ending", "decision", "outcome", "file", "fact"]
HighlightKinds = frozenset[HighlightKind]


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Highlight:
    """One line of a summary. index, role: those of the turn that it comes from."""

    kind: HighlightKind
    index: int
    role: Role
    text: str


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Summary:
    """A node in a few words.

    Attributes:
        author: 'extractive', or the author of a better one: 'agent', 'model:NAME'.
        open_for: what expanding the node would show that this summary leaves out.
    """

    author: str
    title: str
    highlights: tuple[Highlight, ...] = ()
    identifiers: tuple[str, ...] = ()
    open_for: str = ""


EXTRACTIVE = "extractive"
EMPTY_SUMMARY = Summary("", "")


def best_summary(summaries: Sequence[Summary]) -> Summary:
    """Returns the summary to show: the newest written one, else the one the node was created with."""
    written = [summary for summary in summaries if summary.author != EXTRACTIVE]
    return (written or list(summaries))[-1]


def first_summary(summaries: Sequence[Summary]) -> Summary:
    """Returns the summary the node was created with. Parents are built from these, so that a tree's text is the same
    in every store."""
    return next((s for s in summaries if s.author == EXTRACTIVE), summaries[0])
