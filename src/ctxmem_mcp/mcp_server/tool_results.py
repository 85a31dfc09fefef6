"""The records that tools return, where those of the memory have more fields than a tool's result is worth."""

from __future__ import annotations

from dataclasses import dataclass

from ctxmem_mcp.models import Role


@dataclass(frozen=True, slots=True)
class FoundTurn:
    turn_id: str
    conversation_id: str
    role: Role
    name: str | None
    said_at: str | None
    snippet: str
    path: list[str]
    tokens: int
    conversations: int


@dataclass(frozen=True, slots=True)
class SearchResult:
    hits: list[FoundTurn]
    searched: int
    conversations: int
    not_indexed: int
    unreadable: list[str]


@dataclass(frozen=True, slots=True)
class ListedConversation:
    """A ConversationInfo without `ended`: each field costs tokens in every listing."""

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
    agent: str | None


@dataclass(frozen=True, slots=True)
class ConversationPage:
    conversations: list[ListedConversation]
    next_cursor: str | None
    unreadable: list[str]
    events_pending: int


@dataclass(frozen=True, slots=True)
class WrittenSummary:
    conversation_id: str
    node_id: str
