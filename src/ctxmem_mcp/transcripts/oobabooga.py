"""text-generation-webui's chats (oobabooga): pairs of what the user and the character said."""

from __future__ import annotations

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.chat_format import Chat, Reader, json_document
from ctxmem_mcp.transcripts.message_tree import Message
from ctxmem_mcp.transcripts.parts import value_at

# The user's part of the first pair: the character greets.
_GREETING = "<|BEGIN-VISIBLE-CHAT|>"


def _is_own(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), list) for key in ("internal", "visible"))


def _read(reader: Reader, value: object) -> Chat:
    pairs = value_at(value, "internal")
    messages: list[Message] = []
    for number, pair in enumerate(pairs if isinstance(pairs, list) else [], 1):
        said = pair if isinstance(pair, list) else []
        texts = [text if isinstance(text, str) and text != _GREETING else "" for text in said[:2]]
        turns = [NewTurn(role, text) for role, text in zip(("user", "assistant"), texts, strict=False) if text]  # type: ignore[arg-type]
        reader.count({}, understood=bool(turns))
        messages.append(Message(number, tuple(turns)))
    return Chat(messages)


looks_like, parse = json_document("oobabooga", _is_own, _read)
