"""A conversation as a session of Codex, which `codex resume ID` goes on with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from ctxmem_mcp.exports.messages import Message

_VERSION = "0.100.0"


def export_codex(messages: Sequence[Message], session_id: UUID, cwd: str, now: str) -> str:
    """Returns the session's rows as JSON Lines. The arguments are `export_claude_code`'s."""
    meta = {
        "id": str(session_id), "timestamp": now, "cwd": cwd, "originator": "codex_cli_rs", "cli_version": _VERSION,
        "source": "cli", "instructions": None, "model_provider": None,
    }  # fmt: skip
    rows = [{"timestamp": now, "type": "session_meta", "payload": meta}]
    for message in messages:
        at = message.said_at or now
        rows += [{"timestamp": at, "type": kind, "payload": payload} for kind, payload in _payloads(message)]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _payloads(message: Message) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields a message's rows: what the model is sent, and beside texts what Codex shows of them."""
    if message.role == "system":
        return
    part = "input_text" if message.role == "user" else "output_text"
    if message.texts:
        content = [{"type": part, "text": text} for text in message.texts]
        yield "response_item", {"type": "message", "role": message.role, "content": content}
        shown = "user_message" if message.role == "user" else "agent_message"
        yield "event_msg", {"type": shown, "message": "\n".join(message.texts)}
    for call in message.calls:
        yield (
            "response_item",
            {"type": "function_call", "name": call.name, "arguments": call.arguments, "call_id": call.id},
        )
    for call in message.calls:
        yield "response_item", {"type": "function_call_output", "call_id": call.id, "output": call.result}
