"""The nouns: plain frozen values, no I/O, no clock.

Ids as people and models see them are a place and a check, both decided by content:

    t41-837261940512       the turn at index 41 of its chain; digits of the hash of it and all before it
    n40-55-213987001245    the closed node over turns 40..55; digits of the hash of its children
    t42-t47                a span of turns on the head's branch (gaps in a view)
    t42-t47-640            the same on the branch of its last turn

Any beginning of the digits is accepted where it is unambiguous; views show three.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, NamedTuple

Role = Literal["user", "assistant", "system", "tool"]
ROLES: tuple[Role, ...] = ("user", "assistant", "system", "tool")
# Names of turns that nobody said: what the host put in, a host's recap of what it threw away, thoughts said to nobody.
INJECTED, RECAP, THINKING = "injected", "recap", "thinking"
# What stands between a session's id and its sub-agent's.
OF_AGENT = ":"

DIGEST_BYTES = 16
ID_DIGITS = 12
SHORT_DIGITS = 3
RETENTION_DAYS_DEFAULT = 30
RETENTION_DAYS_MIN, RETENTION_DAYS_MAX = 1, 365

# Python takes any sign between date and time, and a time stands in the line above a turn's words.
_WRITTEN_AS_TIME = re.compile(r"[0-9WTtZz:.,+ -]+")


def id_digits(digest: bytes) -> str:
    """Twelve decimal digits of a digest: decimal, because tokenizers take three digits as one token."""
    return f"{int.from_bytes(digest[:8], 'big') % 10**ID_DIGITS:0{ID_DIGITS}d}"


def iso(seconds: float) -> str:
    """An instant (seconds since 1970) as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def day_of(instant: float) -> int:
    """The day (UTC, counted from 1970) that holds an instant (seconds since 1970)."""
    return int(instant // 86_400)


def parse_iso(said_at: str | None) -> float | None:
    """Seconds since 1970 of an ISO 8601 time (UTC where it names no zone); None for None or what can't be read."""
    if said_at is None or not _WRITTEN_AS_TIME.fullmatch(said_at):
        return None
    try:
        when = datetime.fromisoformat(said_at)
        return (when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):  # overflow: of year 1 or 9999 here, and of none that there is in UTC
        return None


@dataclass(frozen=True, slots=True)
class NewTurn:
    """A turn as a caller hands it in. said_at is ISO 8601 or None; call_id pairs a tool call with its result."""

    role: Role
    content: str
    name: str | None = None
    said_at: str | None = None
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A stored turn. seq: its place in the store (1, 2, ...); index: its place in its chain (0, 1, ...)."""

    seq: int
    index: int
    digest: bytes
    role: Role
    content: str
    name: str | None
    said_at: str | None
    call_id: str | None
    tokens: int

    @property
    def id(self) -> str:
        return f"t{self.index}-{id_digits(self.digest)}"

    @property
    def short(self) -> str:
        return f"t{self.index}-{self.check}"

    @property
    def check(self) -> str:
        """The first of its id's digits, as views show them."""
        return id_digits(self.digest)[:SHORT_DIGITS]


@dataclass(frozen=True, slots=True)
class Node:
    """A closed node over turns first..last (indexes, both included). Level 0 is a leaf; its children are turns.

    children: digests of the child nodes (empty for a leaf). strength: how strong the border before it is
    (0 = only the ceiling, 1 = a new request or topic, 2 = a long pause); final like everything here.
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
    """A stretch of one turn that is ranked and shown as one: characters start..stop of its content.

    id: 1, 2, ... in store order. seq/index: of its turn. words: analysed terms in it. flags: see terms.Flag.
    leaf and sitting: index of the first turn of the section and of the sitting it belongs to. role, name, said_at:
    its turn's. A tuple, because hundreds are read for each query and a frozen dataclass takes ten times as long.
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


@dataclass(frozen=True, slots=True)
class Highlight:
    """One line of a summary: what kind of thing, which turn it comes from, who said it, the words."""

    kind: HighlightKind
    index: int
    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What a node says in few words. author: 'extractive', or who wrote a better one ('agent', 'model:' and its name).

    open_for: what opening the node would show that this summary leaves out.
    """

    author: str
    title: str
    highlights: tuple[Highlight, ...] = ()
    identifiers: tuple[str, ...] = ()
    open_for: str = ""


EXTRACTIVE = "extractive"
EMPTY_SUMMARY = Summary("", "")


def best_summary(summaries: Sequence[Summary]) -> Summary:
    """The summary to show: the newest that somebody wrote, else the one the node was born with."""
    written = [summary for summary in summaries if summary.author != EXTRACTIVE]
    return (written or list(summaries))[-1]


def first_summary(summaries: Sequence[Summary]) -> Summary:
    """The summary a node was born with: parents grow from these, so that the tree's text is the same everywhere."""
    return next((s for s in summaries if s.author == EXTRACTIVE), summaries[0])


@dataclass(frozen=True, slots=True)
class Appended:
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
    conversation_id: str
    head: str | None
    known: int
    appended: int
    forked: bool
    turn_ids: list[str]


@dataclass(frozen=True, slots=True)
class Reverted:
    conversation_id: str
    head: str
    previous_head: str
    kept_branch: str | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What forgetting removed, and what was checked afterwards. others: its sub-agents' conversations, still there."""

    conversation_id: str
    turns: int
    nodes: int
    bytes: int
    checked: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ConversationInfo:
    """One line of a listing. Times are ISO 8601 in UTC; tokens and turns are those stored, on all branches."""

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


@dataclass(frozen=True, slots=True)
class ConversationPage:
    """One page of a listing. next_cursor: where the next page starts, None on the last one."""

    conversations: list[ConversationInfo] = field(default_factory=list)
    next_cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as a whole. Turns, tokens and nodes are those stored, on all branches.

    Attributes:
        encoding: the tokenizer encoding that its tokens are counted in.
        retention_days: days that it is kept after its last append.
        created, updated, expires: seconds since 1970; it expires `retention_days` after `updated`.
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
    """What a model that the user configured has cost for a conversation, and what it may cost (None: none is).

    calls: those under way included, with the tokens set aside for them. kept: summaries that were good enough.
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
    """A found turn. path: the titles of the sections above it, outermost first. tokens: what reading it costs.

    why: the features that paid most for it, with what they paid ('rel +3.48').
    """

    turn_id: str
    conversation_id: str
    role: Role
    name: str | None
    said_at: str | None
    snippet: str
    path: list[str]
    tokens: int
    score: float
    why: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a stretch of a turn is in a view: its score, its cost in tokens, the features that paid most."""

    turn_id: str
    tokens: int
    score: float
    why: list[str]


@dataclass(frozen=True, slots=True)
class View:
    """Text that fits a budget, and what it says about itself. render() is what a caller sends on."""

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
        return f"{self.header}\n{self.text}"


@dataclass(frozen=True, slots=True)
class OutlineNode:
    """One node of a drawn tree. id is None for the open tail; children are inner nodes or leaves, never turns."""

    id: str | None
    level: int
    first: int
    last: int
    tokens: int
    summary: Summary
    children: tuple[OutlineNode, ...] = ()
