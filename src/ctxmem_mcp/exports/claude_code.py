"""A conversation as a session of Claude Code, which `claude --resume ID` goes on with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID, uuid5

from ctxmem_mcp.exports.anthropic import message_blocks
from ctxmem_mcp.exports.messages import Message

# Claude Code reads sessions of other versions too; the field has to be there.
_VERSION = "2.0.0"
_MODEL = "unknown"


def export_claude_code(messages: Sequence[Message], session_id: UUID, cwd: str, now: str) -> str:
    """Returns the session's rows as JSON Lines.

    Args:
        messages: the conversation.
        session_id: the session's new id.
        cwd: the folder in which the session is to be resumed.
        now: the time in ISO 8601 of messages that have none.
    """
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(messages, session_id, cwd, now))


def _rows(messages: Sequence[Message], session_id: UUID, cwd: str, now: str) -> Iterator[dict[str, Any]]:
    parent: str | None = None
    number = 0
    for message in messages:
        for role, blocks in message_blocks(message):
            number += 1
            own = str(uuid5(session_id, str(number)))
            body: dict[str, Any] = {"role": role, "content": blocks}
            if role == "assistant":
                body = {"id": f"msg_{number}", "type": "message", "model": _MODEL, **body, "stop_reason": None,
                        "stop_sequence": None, "usage": {"input_tokens": 0, "output_tokens": 0}}  # fmt: skip
            yield {
                "parentUuid": parent, "isSidechain": False, "userType": "external", "cwd": cwd,
                "sessionId": str(session_id), "version": _VERSION, "type": role, "message": body, "uuid": own,
                "timestamp": message.said_at or now,
            }  # fmt: skip
            parent = own
