"""Turns for summariser tests, and a simple rule that cuts them into sections."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from ctxmem_mcp.models import Node, Role, Summary, Turn
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text import tokenizer

EXAMPLE = Path(__file__).parents[2] / "examples" / "session.jsonl"


def turn(index: int, role: Role, content: str, name: str | None = None, call_id: str | None = None) -> Turn:
    return Turn(index + 1, index, b"", role, content, name, None, call_id, tokenizer.count(content))


def turns(*said: tuple[Role, str] | tuple[Role, str, str] | tuple[Role, str, str, str]) -> list[Turn]:
    """Each: role, content, and for tools name and call id ('' for none)."""
    return [turn(i, s[0], s[1], *(part or None for part in s[2:])) for i, s in enumerate(said)]


def example() -> list[Turn]:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    return [
        turn(i, said["role"], said["content"], said.get("name"), said.get("call_id"))
        for i, said in enumerate(map(json.loads, lines))
    ]


def sections(whole: Sequence[Turn], smallest: int = 600, largest: int = 3_000) -> list[list[Turn]]:
    """Begun at a user's turn once large enough, or at the ceiling; never between a call and its result."""
    cut: list[list[Turn]] = [[]]
    size = 0
    for said in whole:
        asks = said.role == "user" and size >= smallest
        full = said.role != "tool" and (size + said.tokens > largest or len(cut[-1]) >= 64)
        if cut[-1] and (asks or full):
            cut.append([])
            size = 0
        cut[-1].append(said)
        size += said.tokens
    return cut


def summarized(cut: Iterable[Sequence[Turn]]) -> list[tuple[Node, Summary]]:
    """Each section's node and summary, the section before it as context."""
    found: list[tuple[Node, Summary]] = []
    before: Sequence[Turn] = ()
    for section in cut:
        summary = ExtractiveSummarizer().summarize_leaf(section, before[-4:])
        size = sum(said.tokens for said in section)
        found.append((Node(b"", 0, section[0].index, section[-1].index, size, 1), summary))
        before = section
    return found


def text_of(summary: Summary) -> str:
    """Everything a summary says, as a reader gets it."""
    return "\n".join(
        [summary.title, *(line.text for line in summary.highlights), *summary.identifiers, summary.open_for]
    )
