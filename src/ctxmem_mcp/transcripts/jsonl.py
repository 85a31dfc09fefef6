"""JSON Lines of turns or of chat messages: an object with role and content on each line."""

from __future__ import annotations

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.transcripts.base import NumberedTurn, ParseLog, Transcript
from ctxmem_mcp.transcripts.json_lines import first_rows, read_rows
from ctxmem_mcp.transcripts.openai import turns_from_message

AGENT = "jsonl"


def looks_like(name: str, head: str) -> bool:
    """Recognises lines that all have a role, and content or calls."""
    found = first_rows(head)
    return bool(found) and all("role" in row and ("content" in row or "tool_calls" in row) for row in found)


def parse(text: str, name: str) -> Transcript:
    """Returns a turn for each line, or several if a message has parts and calls."""
    log = ParseLog()
    found: list[NumberedTurn] = []
    rows = unread = 0
    for line, row in read_rows(text, log):
        rows += 1
        try:
            found += [(line, turn) for turn in turns_from_message(row, "message")]
        except InvalidArgument as error:
            unread += 1
            log.add_warning(line, f"skipped, {error}")
    log.count_unread(unread, rows)
    return Transcript(AGENT, "", log.sanitize(found), warnings=tuple(log.warnings), unread=log.unread)
