"""A conversation as a list of Anthropic's messages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ctxmem_mcp.exports.messages import Message, system_text

Block = dict[str, Any]


def export_anthropic(messages: Sequence[Message]) -> str:
    """Returns `{"system": ..., "messages": [...]}` as JSON."""
    listed: list[dict[str, Any]] = []
    for role, content in exchanges(messages):
        if listed and listed[-1]["role"] == role == "user":
            listed[-1]["content"] += content
        else:
            listed.append({"role": role, "content": content})
    body = {"system": system_text(messages), "messages": listed}
    return json.dumps({key: value for key, value in body.items() if value}, ensure_ascii=False, indent=1) + "\n"


def exchanges(messages: Sequence[Message]) -> Iterator[tuple[str, list[Block]]]:
    """Yields the role and the blocks of each message; the results of a message's calls are one of the user's."""
    for message in messages:
        yield from message_blocks(message)


def message_blocks(message: Message) -> Iterator[tuple[str, list[Block]]]:
    """Yields a message's role and blocks, then those of the results of its calls; nothing for a system message."""
    if message.role == "system":
        return
    blocks: list[Block] = [{"type": "text", "text": text} for text in message.texts]
    blocks += [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments_object()}
        for call in message.calls
    ]
    yield message.role, blocks
    if message.calls:
        yield (
            "user",
            [{"type": "tool_result", "tool_use_id": call.id, "content": call.result} for call in message.calls],
        )
