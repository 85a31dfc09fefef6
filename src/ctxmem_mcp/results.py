"""What the operations on a memory return: plain, frozen, without I/O and without a clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

from ctxmem_mcp.models import Role, Summary, Turn


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
class Change:
    """A change that is stored.

    Attributes:
        conversation_id: The conversation; None: any may have changed.
        list_changed: A conversation was created or removed.
    """

    conversation_id: str | None
    list_changed: bool = False


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
        not_indexed: how many were not searched because the index over all conversations does not have them yet.
    """

    hits: list[Hit]
    searched: int = 1
    conversations: int = 1
    unreadable: dict[str, str] = field(default_factory=dict)
    not_indexed: int = 0

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
        confidence: the estimated probability that the text holds the answer to the query; None without an estimate.
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
    confidence: float | None = None

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
