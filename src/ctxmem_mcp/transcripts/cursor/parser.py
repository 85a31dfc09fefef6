"""Cursor's conversations, in the three forms it keeps them in: JSON Lines, older text, and the editor's database."""

from __future__ import annotations

from ctxmem_mcp.transcripts.base import Transcript
from ctxmem_mcp.transcripts.cursor import ide_db, jsonl_transcript, text_transcript


def looks_like(name: str, head: str) -> bool:
    """Recognises the three forms."""
    return any(form.looks_like(name, head) for form in (jsonl_transcript, text_transcript, ide_db))


def parse(text: str, name: str) -> Transcript:
    """Returns the conversation in a transcript; of a database, its conversations as threads."""
    if text_transcript.looks_like(name, text):
        return text_transcript.parse(text, name)
    if ide_db.looks_like(name, text):
        return ide_db.parse(text, name)
    return jsonl_transcript.parse(text, name)
