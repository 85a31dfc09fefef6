"""Cursor's conversations, in the three forms it keeps them in: lines, older text, and its editor's database."""

from __future__ import annotations

from ctxmem_mcp.transcripts import cursor_ide, cursor_lines, cursor_text
from ctxmem_mcp.transcripts.contract import Transcript


def looks_like(name: str, head: str) -> bool:
    return any(form.looks_like(name, head) for form in (cursor_lines, cursor_text, cursor_ide))


def parse(text: str, name: str) -> Transcript:
    if cursor_text.looks_like(name, text):
        return cursor_text.parse(text, name)
    if cursor_ide.looks_like(name, text):
        return cursor_ide.parse(text, name)
    return cursor_lines.parse(text, name)
