"""A conversation as a list of OpenAI's chat messages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ctxmem_mcp.exports.messages import Call, Message


def export_openai(messages: Sequence[Message]) -> str:
    """Returns `{"messages": [...]}` as JSON."""
    listed = [one for message in messages for one in _messages(message)]
    return json.dumps({"messages": listed}, ensure_ascii=False, indent=1) + "\n"


def _messages(message: Message) -> Iterator[dict[str, Any]]:
    found: dict[str, Any] = {"role": message.role, "content": _content(message.texts)}
    if message.calls:
        found["tool_calls"] = [_call(call) for call in message.calls]
    yield found
    for call in message.calls:
        yield {"role": "tool", "tool_call_id": call.id, "content": call.result}


def _content(texts: list[str]) -> object:
    return None if not texts else texts[0] if len(texts) == 1 else [{"type": "text", "text": text} for text in texts]


def _call(call: Call) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
