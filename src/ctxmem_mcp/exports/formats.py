"""The forms that a conversation can be exported in, beside the `.ctxmem` file that keeps all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from ctxmem_mcp.exports.anthropic import export_anthropic
from ctxmem_mcp.exports.claude_code import export_claude_code
from ctxmem_mcp.exports.codex import export_codex
from ctxmem_mcp.exports.html import export_html
from ctxmem_mcp.exports.markdown import export_markdown
from ctxmem_mcp.exports.messages import messages_of
from ctxmem_mcp.exports.openai import export_openai
from ctxmem_mcp.models import Turn

CLAUDE_CODE, CODEX = "claude-code", "codex"
# Each form's suffix.
SUFFIXES = {
    CLAUDE_CODE: ".jsonl", CODEX: ".jsonl", "openai": ".json", "anthropic": ".json", "markdown": ".md", "html": ".html",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Export:
    """An exported conversation. left_out: how many turns the form can't take; see `messages_of`."""

    text: str
    left_out: int = 0


def export_turns(turns: Sequence[Turn], form: str, title: str, session_id: UUID, cwd: str, now: str) -> Export:
    """Returns the turns in a form.

    Args:
        turns: those of one branch, oldest first.
        form: a key of `SUFFIXES`.
        title: the conversation's title, for people.
        session_id: the id of the new session, for agents.
        cwd: the folder in which an agent is to go on.
        now: the time in ISO 8601 of turns that have none.
    """
    if form == "markdown":
        return Export(export_markdown(turns, title))
    if form == "html":
        return Export(export_html(turns, title))
    messages, left_out = messages_of(turns)
    if form == "openai":
        return Export(export_openai(messages), left_out)
    if form == "anthropic":
        return Export(export_anthropic(messages), left_out)
    write = export_claude_code if form == CLAUDE_CODE else export_codex
    return Export(write(messages, session_id, cwd, now), left_out)
