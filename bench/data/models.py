"""What a conversation with known evidence is, wherever it was read from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ctxmem_mcp.models import NewTurn


@dataclass(frozen=True, slots=True)
class Evidence:
    """A turn that a question's answer stands in; text: the part of it that is wanted (None: all of it)."""

    turn: str
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    id: str
    query: str
    category: str
    evidence: tuple[Evidence, ...]
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """turns: in order, by the id that questions know them by."""

    id: str
    turns: dict[str, NewTurn]
    questions: tuple[Question, ...]


def to_iso(written: str | None, *forms: str) -> str | None:
    """A time written in one of these forms (strptime's), as ISO 8601; none where it is in none of them."""
    for form in forms:
        try:
            return datetime.strptime(written or "", form).strftime("%Y-%m-%dT%H:%M:%SZ")
        except ValueError:
            continue
    return None
