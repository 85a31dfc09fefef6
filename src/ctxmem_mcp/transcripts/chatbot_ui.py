"""Chatbot UI's export: a history of conversations, each with a prompt and messages."""

from __future__ import annotations

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, json_document, objects
from ctxmem_mcp.transcripts.json_lines import Row
from ctxmem_mcp.transcripts.message_tree import Message
from ctxmem_mcp.transcripts.parts import PartTypes, text_at, value_at


def _is_own(value: object) -> bool:
    has_chats = any(isinstance(row.get("messages"), list) for _, row in objects(value_at(value, "history")))
    return has_chats and isinstance(value_at(value, "folders"), list)


def _read(reader: Reader, value: object) -> list[Chat]:
    return [_chat(reader, one) for _, one in objects(value_at(value, "history"), reader.log)]


def _chat(reader: Reader, conversation: Row) -> Chat:
    messages = reader.messages(objects(conversation.get("messages")), Fields(), PartTypes())
    if prompt := text_at(conversation, "prompt"):
        messages.insert(0, Message(0, (NewTurn("system", prompt),)))
    return Chat(messages, text_at(conversation, "id"), text_at(conversation, "name"))


looks_like, parse = json_document("chatbot-ui", _is_own, _read)
