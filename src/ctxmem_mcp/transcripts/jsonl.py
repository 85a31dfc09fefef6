"""JSON Lines of turns, or of chat messages: one object with role and content on each line."""

from __future__ import annotations

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.base import Notes, Transcript
from ctxmem_mcp.transcripts.json_lines import first_rows, rows
from ctxmem_mcp.transcripts.openai import turns_of_message

AGENT = "jsonl"


def looks_like(name: str, head: str) -> bool:
    found = first_rows(head)
    return bool(found) and all("role" in row and ("content" in row or "tool_calls" in row) for row in found)


def parse(text: str, name: str) -> Transcript:
    """A turn for each line, or several where a message has parts and calls."""
    notes = Notes()
    found: list[tuple[int, NewTurn]] = []
    for line, row in rows(text, notes):
        try:
            found += [(line, turn) for turn in turns_of_message(row, "message")]
        except InvalidArgument as error:
            notes.warn(line, f"was left out: {error}")
    return Transcript(AGENT, "", notes.mended(found), warnings=tuple(notes.warnings))
