"""ChatGPT's export (conversations.json): conversations, each a tree of messages, `current_node` its tip.

The way to the tip is told, message by message: text and each other part a turn, thoughts as assistant turns named
'thinking', code handed to a tool (its recipient) as a call under the message's id, what a tool answered as its result.
Custom instructions, memory, hidden and system messages are 'injected'. Answers that were regenerated, requests that
were edited: ways in `left`. Where a file holds several conversations, each is a thread of a transcript without turns.
The recap of how long it thought is left out. Times are given in seconds since 1970, and told as ISO 8601.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ctxmem_mcp.models import INJECTED, THINKING, NewTurn, Role, iso
from ctxmem_mcp.transcripts.base import Notes, Transcript, compact
from ctxmem_mcp.transcripts.json_documents import document
from ctxmem_mcp.transcripts.json_lines import Row, text_of

AGENT = "chatgpt"
_MAPPING = re.compile(r'"mapping"\s*:\s*\{')
_NODE = re.compile(r'"(?:parent|children|message)"\s*:')
# Kinds of content that say something in fields of their own.
_FIELDS = {
    "user_editable_context": ("user_profile", "user_instructions"),
    "model_editable_context": ("model_set_context", "repository", "repo_summary", "structured_context"),
    "tether_browsing_display": ("result", "summary"),
    "reasoning_recap": (),
}
_SPOKEN = "audio_transcription"
_CONTEXTS = ("user_editable_context", "model_editable_context")
_YEAR_3000 = 32_503_680_000


def looks_like(name: str, head: str) -> bool:
    """A conversation, or a list of them, with its mapping of nodes."""
    start = head.lstrip()
    return start[:1] in ("{", "[") and bool(_MAPPING.search(start)) and bool(_NODE.search(start))


def parse(text: str, name: str) -> Transcript:
    """The conversation in a file, or its conversations as threads."""
    notes = Notes()
    body = document(text, notes)
    all_of_them = body if isinstance(body, list) else [body]
    told = [_conversation(one, notes) for one in all_of_them if isinstance(one, dict) and _nodes(one)]
    warnings = tuple(dict.fromkeys(notes.warnings))
    if len(told) == 1:
        only = told[0]
        return Transcript(AGENT, only.session_id, only.turns, only.title, left=only.left, warnings=warnings)
    return Transcript(AGENT, "", (), threads=tuple(told), warnings=warnings)


def _conversation(conversation: Row, notes: Notes) -> Transcript:
    nodes = _nodes(conversation)
    session = text_of(conversation.get("conversation_id")) or text_of(conversation.get("id")) or ""
    *left, turns = [notes.mended(enumerate(_turns(way), 1)) for way in _ways(nodes, conversation.get("current_node"))]
    return Transcript(
        AGENT,
        session,
        turns,
        text_of(conversation.get("title")),
        left=tuple(way for way in left if way and way != turns[: len(way)]),
    )


# ---------------------------------------------------------------- the tree


def _nodes(conversation: Row) -> dict[str, Row]:
    mapping = conversation.get("mapping")
    return {key: node for key, node in mapping.items() if isinstance(node, dict)} if isinstance(mapping, dict) else {}


def _parents(nodes: dict[str, Row]) -> dict[str, str | None]:
    """Each node's parent. One that names none (the file was cut within it) is the child of the node before it."""
    parents: dict[str, str | None] = {}
    before: str | None = None
    for key, node in nodes.items():
        parent = node.get("parent", before)
        parents[key] = parent if isinstance(parent, str) and parent in nodes else None
        before = key
    return parents


def _ways(nodes: dict[str, Row], current: object) -> list[list[Row]]:
    """From the root to each tip, the current one's last; where that is not there, the last node's."""
    parents = _parents(nodes)
    followed = set(parents.values())
    tip = current if isinstance(current, str) and current in nodes else [*nodes][-1]
    tips = [key for key in nodes if key not in followed and key != tip]
    return [_way(nodes, parents, key) for key in (*tips, tip)]


def _way(nodes: dict[str, Row], parents: dict[str, str | None], tip: str) -> list[Row]:
    way: dict[str, Row] = {}
    key: str | None = tip
    while key is not None and key not in way:
        way[key] = nodes[key]
        key = parents[key]
    return [*reversed(way.values())]


# ---------------------------------------------------------------- messages


def _turns(way: list[Row]) -> Iterator[NewTurn]:
    call: str | None = None
    tool: str | None = None
    for node in way:
        message = node.get("message")
        if not isinstance(message, dict):
            continue
        author, content = message.get("author"), message.get("content")
        author = author if isinstance(author, dict) else {}
        content = content if isinstance(content, dict) else {}
        role, said_at = author.get("role"), _instant(message.get("create_time"))
        recipient = text_of(message.get("recipient")) or "all"
        if role == "assistant" and recipient != "all":
            call, tool = text_of(message.get("id")) or text_of(node.get("id")), recipient
            yield NewTurn("assistant", _given(content), recipient, said_at, call)
        elif role == "tool":
            for text in [*_texts(content)] or [""]:
                yield NewTurn("tool", text, text_of(author.get("name")) or tool, said_at, call)
        else:
            if role in ("user", "assistant") and content.get("content_type") != "thoughts":
                call = tool = None
            yield from _said(_speaker(message, role, content), content, said_at)


def _given(content: Row) -> str:
    texts = [*_texts(content)]
    return "" if not texts else texts[0] if len(texts) == 1 else compact(texts)


def _speaker(message: Row, role: object, content: Row) -> tuple[Role, str | None]:
    metadata = message.get("metadata")
    hidden = isinstance(metadata, dict) and metadata.get("is_visually_hidden_from_conversation")
    if hidden or role not in ("user", "assistant") or content.get("content_type") in _CONTEXTS:
        return "system", INJECTED
    if role == "user":
        return "user", None
    return "assistant", THINKING if content.get("content_type") == "thoughts" else None


def _said(speaker: tuple[Role, str | None], content: Row, said_at: str | None) -> Iterator[NewTurn]:
    for text in _texts(content):
        if text:
            yield NewTurn(speaker[0], text, speaker[1], said_at)


def _texts(content: Row) -> Iterator[str]:
    """All that a message's content says, part by part; what is no text as JSON."""
    kind = text_of(content.get("content_type")) or "text"
    if kind in _FIELDS:
        said = [content.get(field) for field in _FIELDS[kind]]
    elif isinstance(content.get("parts"), list):
        said = content["parts"]
    elif isinstance(content.get("thoughts"), list):
        said = [_thought(thought) for thought in content["thoughts"]]
    elif isinstance(content.get("text"), str):
        said = [content["text"]]
    else:
        said = [content] if content else []
    for part in said:
        if isinstance(part, dict) and part.get("content_type") == _SPOKEN and isinstance(part.get("text"), str):
            yield part["text"]
        elif part:
            yield part if isinstance(part, str) else compact(part)


def _thought(thought: object) -> object:
    if not isinstance(thought, dict):
        return thought
    return text_of(thought.get("content")) or text_of(thought.get("summary"))


def _instant(seconds: object) -> str | None:
    return iso(seconds) if isinstance(seconds, int | float) and 0 < seconds < _YEAR_3000 else None
