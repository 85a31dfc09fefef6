"""The values that the layers exchange: plain, frozen, without I/O and without a clock.

Ids as people and models see them are a position and a check, both determined by content:

    t41-837261940512       the turn at index 41 of its branch; digits of the hash of it and all turns before it
    n40-55-213987001245    the closed node over turns 40..55; digits of the hash of its children
    t42-t47                a span of turns on the head's branch (a gap in a view)
    t42-t47-640            a span on the branch of its last turn

Any unambiguous prefix of the digits is accepted; views show three.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from enum import Enum
from operator import attrgetter
from typing import Literal, NamedTuple, TypeVar, overload

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
_REDACTED_TEXT = re.compile(r"\[redacted \d{4}-\d{2}-\d{2}\]")

# Python accepts any character between date and time, and the time is printed in the line above a turn's text.
_TIME_CHARS = re.compile(r"[0-9WTtZz:.,+ -]+")


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
    """What is left of a redacted turn, so that it keeps its id.

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
        flags: see analyzer.Flag.
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


@dataclass(frozen=True, slots=True)
class Appended:
    """The result of an append. forked: the turn began a new branch. expires_at: ISO 8601 in UTC."""

    conversation_id: str
    turn_id: str
    parent_id: str | None
    index: int
    tokens: int
    head: str
    forked: bool
    closed_nodes: list[str]
    expires_at: str


@dataclass(frozen=True, slots=True)
class Synced:
    """The result of a sync. head: the turn that the messages end at. known: how many of them were stored before."""

    conversation_id: str
    head: str | None
    known: int
    appended: int
    forked: bool
    turn_ids: list[str]


@dataclass(frozen=True, slots=True)
class Reverted:
    """The result of a revert. kept_branch: the last turn of the branch left behind; None if nothing was."""

    conversation_id: str
    head: str
    previous_head: str
    kept_branch: str | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was removed, and what was checked afterwards.

    Attributes:
        others: conversations of its sub-agents, which remain.
        other_branches: how many branches were removed besides the head's.
        warnings: where the words may still be, and what could not be counted.
    """

    conversation_id: str
    turns: int
    nodes: int
    bytes: int
    checked: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    other_branches: int = 0
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FoundTurn:
    """A turn to redact: its conversation, and the turn with its content."""

    conversation_id: str
    turn: Turn


@dataclass(frozen=True, slots=True)
class RedactionReceipt:
    """What was redacted, and what was checked afterwards.

    Attributes:
        turns: the ids of the turns, by conversation.
        bytes: the size of their contents.
        checked: what was found to be free of them.
        warnings: where their words may still be.
    """

    turns: dict[str, list[str]]
    bytes: int
    checked: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ConversationInfo:
    """A conversation in a listing. Times are ISO 8601 in UTC; turns, tokens and bytes are of all branches.

    Attributes:
        last_activity: when its last turn happened, which for an imported session is before it was stored.
        expires_at: `retention_days` after its last turn was stored.
        agent: the agent whose session it is, if it was captured or imported.
        ended: the beginning of what the agent said last; None if it said nothing lately.
    """

    conversation_id: str
    title: str
    space: str | None
    turns: int
    tokens: int
    branches: int
    head: str | None
    created_at: str
    last_activity: str
    expires_at: str
    retention_days: int
    bytes: int
    agent: str | None = None
    ended: str | None = None


@dataclass(frozen=True, slots=True)
class ConversationPage:
    """One page of a listing.

    Attributes:
        next_cursor: where the next page starts, None on the last one.
        unreadable: files that could not be read, so that their conversations are in no page; each with the reason.
        events_pending: how many events of agents' hooks are not stored yet.
    """

    conversations: list[ConversationInfo] = field(default_factory=list)
    next_cursor: str | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    events_pending: int = 0


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation. Turns, tokens and nodes are of all branches.

    Attributes:
        encoding: the tokenizer encoding that its tokens are counted in.
        retention_days: how long it is kept after its last append.
        created, updated, expires: seconds since 1970. It expires `retention_days` after `updated`.
    """

    conversation_id: str
    title: str
    space: str | None
    turns: int
    tokens: int
    nodes: int
    encoding: str
    retention_days: int
    created: float
    updated: float
    expires: float


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What the configured model has cost for a conversation, and may cost (None: no model is configured).

    Attributes:
        calls: including those in progress, whose reserved tokens count.
        kept: the number of summaries that were good enough.
        tokens_today: over all conversations, on this day in UTC.
    """

    calls: int
    kept: int
    tokens_in: int
    tokens_out: int
    tokens_per_conversation: int | None
    tokens_today: int
    tokens_per_day: int | None


@dataclass(frozen=True, slots=True)
class Hit:
    """A turn found by a search.

    Attributes:
        path: titles of the sections above it, outermost first.
        tokens: the cost of reading it.
        conversations: in how many conversations it is, of those that were searched: a resumed session may be a copy.
        score: only if an explanation was requested.
        why: the features that contributed most to its score, such as 'rel +3.48'; only with `score`.
    """

    turn_id: str
    conversation_id: str
    role: Role
    name: str | None
    said_at: str | None
    snippet: str
    path: list[str]
    tokens: int
    conversations: int = 1
    score: float | None = None
    why: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchResult(Sequence[Hit]):
    """The turns that a search found, best first; a sequence of them.

    Attributes:
        searched: how many conversations were searched.
        conversations: how many there are, without the unreadable ones. If there are more, the search ran out of time.
        unreadable: what could not be searched, by conversation or file; each with the reason.
    """

    hits: list[Hit]
    searched: int = 1
    conversations: int = 1
    unreadable: dict[str, str] = field(default_factory=dict)

    @overload
    def __getitem__(self, at: int) -> Hit: ...

    @overload
    def __getitem__(self, at: slice) -> list[Hit]: ...

    def __getitem__(self, at: int | slice) -> Hit | list[Hit]:
        return self.hits[at]

    def __len__(self) -> int:
        return len(self.hits)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an excerpt is in a view. tokens: its cost. why: the features that contributed most to its score."""

    turn_id: str
    tokens: int
    score: float
    why: list[str]


@dataclass(frozen=True, slots=True)
class View:
    """Text that fits a token budget.

    Attributes:
        turns, tokens: those of the branch, node or turn viewed; `shown_tokens` are those of header and text together.
        header: one line of JSON that states the above.
        next_cursor: where the next page starts; None on the last.
        reasons: why each excerpt was chosen, if requested.
    """

    text: str
    conversation_id: str
    head: str | None
    turns: int
    tokens: int
    shown_tokens: int
    token_budget: int
    encoding: str
    next_cursor: str | None = None
    header: str = ""
    reasons: tuple[Reason, ...] = ()

    def render(self) -> str:
        """Returns the header line and the text, as a caller receives it."""
        return f"{self.header}\n{self.text}"


@dataclass(frozen=True, slots=True)
class OutlineNode:
    """A node of an outline. id: None for the open tail. children: inner nodes or leaves, never turns."""

    id: str | None
    level: int
    first: int
    last: int
    tokens: int
    summary: Summary
    children: tuple[OutlineNode, ...] = ()
