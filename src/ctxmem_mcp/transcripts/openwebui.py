"""OpenWebUI's chats, one or all of them: a tree of messages, of which `currentId` is the current branch's last.

Reasoning and calls are `<details>` in the text, or items in `output`; each is a turn. The chat's system prompt is the
first. Other answers and edited requests are in `abandoned_branches`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import replace

from ctxmem_mcp.models import THINKING, NewTurn
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, first_object, json_document
from ctxmem_mcp.transcripts.json_lines import Row, text_or_none
from ctxmem_mcp.transcripts.message_tree import Message
from ctxmem_mcp.transcripts.parts import PartTypes, text_at, value_at
from ctxmem_mcp.transcripts.responses import item_turns

_FIELDS = Fields(id="id", parent="parentId")
_PARTS = PartTypes()
_DETAILS = lazy_regex(
    r'<details type="(reasoning|tool_calls)"([^>]*)>\s*(?:<summary>.*?</summary>)?(.*?)</details>\n?', re.S
)
_ATTRIBUTE = lazy_regex(r'(\w+)="([^"]*)"')


def _is_own(value: object) -> bool:
    one = first_object(value)
    chat = one.get("chat", one)
    return isinstance(value_at(chat, "history.messages"), dict)


def _read(reader: Reader, value: object) -> list[Chat]:
    listed = value if isinstance(value, list) else [value]
    return [_chat(reader, one) for one in listed if isinstance(one, dict)]


def _chat(reader: Reader, row: Row) -> Chat:
    chat = row["chat"] if isinstance(row.get("chat"), dict) else row
    held = value_at(chat, "history.messages")
    rows = [message for message in held.values() if isinstance(message, dict)] if isinstance(held, dict) else []
    messages = [reader.message(n, message, _turns(message), _FIELDS) for n, message in enumerate(_in_order(rows), 1)]
    if system := text_at(chat, "system") or text_at(chat, "params.system"):
        messages = [replace(message, is_root=False) for message in messages]
        messages.insert(0, Message(0, (NewTurn("system", system),)))
    title = text_at(row, "title") or text_at(chat, "title")
    return Chat(messages, text_at(row, "id"), title, tip=text_at(chat, "history.currentId"))


def _in_order(rows: list[Row]) -> list[Row]:
    """Returns the messages in the order they were written: the file has them in that of a mapping."""
    return sorted(rows, key=lambda row: at if isinstance(at := row.get("timestamp"), int | float) else 0)


def _turns(row: Row) -> Iterator[NewTurn]:
    role, name = _FIELDS.author(row)
    said_at = _FIELDS.said_at(row)
    items = row.get("output")
    if isinstance(items, list) and items:
        yield from (turn for item in items for turn in item_turns(item, said_at))
        return
    content = row.get("content")
    if role != "assistant" or not isinstance(content, str):
        yield from _PARTS.turns(role, content, said_at, name)
        return
    at = 0
    for found in _DETAILS.finditer(content):
        yield from _PARTS.turns(role, content[at : found.start()].strip(), said_at, name)
        yield from _details(found, said_at)
        at = found.end()
    yield from _PARTS.turns(role, content[at:].strip() if at else content, said_at, name)


def _details(found: re.Match[str], said_at: str | None) -> Iterator[NewTurn]:
    kind, attributes, body = found.groups()
    if kind == "reasoning":
        lines = html.unescape(body).strip().splitlines()
        if text := "\n".join(line.removeprefix(">").removeprefix(" ") for line in lines):
            yield NewTurn("assistant", text, THINKING, said_at)
        return
    values = {key: html.unescape(value) for key, value in _ATTRIBUTE.findall(attributes)}
    name, id = text_or_none(values.get("name")), text_or_none(values.get("id"))
    yield NewTurn("assistant", values.get("arguments", ""), name, said_at, id)
    if "result" in values:
        yield NewTurn("tool", values["result"], name, said_at, id)


looks_like, parse = json_document("openwebui", _is_own, _read)
