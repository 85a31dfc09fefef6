"""Cursor's conversations, in the three forms it keeps them in: lines, older text, and its editor's database."""

from __future__ import annotations

from ctxmem_mcp.transcripts.base import Transcript
from ctxmem_mcp.transcripts.cursor import ide_db, message_lines, plain_text


def looks_like(name: str, head: str) -> bool:
    return any(form.looks_like(name, head) for form in (message_lines, plain_text, ide_db))


def parse(text: str, name: str) -> Transcript:
    if plain_text.looks_like(name, text):
        return plain_text.parse(text, name)
    if ide_db.looks_like(name, text):
        return ide_db.parse(text, name)
    return message_lines.parse(text, name)
