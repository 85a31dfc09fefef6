"""Builds turns for summariser tests, and splits them into sections by a simple rule."""

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


def turns(*rows: tuple[Role, str] | tuple[Role, str, str] | tuple[Role, str, str, str]) -> list[Turn]:
    """Builds turns from rows of role, content and, for tools, name and call id ('' for none)."""
    return [turn(i, row[0], row[1], *(part or None for part in row[2:])) for i, row in enumerate(rows)]


def example_session() -> list[Turn]:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    return [
        turn(i, row["role"], row["content"], row.get("name"), row.get("call_id"))
        for i, row in enumerate(map(json.loads, lines))
    ]


def split_into_sections(turns: Sequence[Turn], min_tokens: int = 600, max_tokens: int = 3_000) -> list[list[Turn]]:
    """Splits at a user's turn once a section is large enough, or when full; never between a call and its result."""
    sections: list[list[Turn]] = [[]]
    size = 0
    for one in turns:
        starts_request = one.role == "user" and size >= min_tokens
        is_full = one.role != "tool" and (size + one.tokens > max_tokens or len(sections[-1]) >= 64)
        if sections[-1] and (starts_request or is_full):
            sections.append([])
            size = 0
        sections[-1].append(one)
        size += one.tokens
    return sections


def summarize_sections(sections: Iterable[Sequence[Turn]]) -> list[tuple[Node, Summary]]:
    """Returns each section's node and summary, with the end of the preceding section as context."""
    summaries: list[tuple[Node, Summary]] = []
    before: Sequence[Turn] = ()
    for section in sections:
        summary = ExtractiveSummarizer().summarize_leaf(section, before[-4:])
        size = sum(one.tokens for one in section)
        summaries.append((Node(b"", 0, section[0].index, section[-1].index, size, 1), summary))
        before = section
    return summaries


def summary_text(summary: Summary) -> str:
    """Returns all text of a summary, as a reader sees it."""
    return "\n".join(
        [summary.title, *(line.text for line in summary.highlights), *summary.identifiers, summary.open_for]
    )
