"""ChatGPT's export (conversations.json): conversations, each a tree of messages with `current_node` as its tip.

The turns are those from the root to the tip, message by message: text and each other part is a turn, thoughts are
assistant turns named `thinking`, code sent to a tool (the message's recipient) is a call under the message's id, and a
tool's output is its result. Custom instructions, memory, hidden and system messages are named `injected`. Responses
that were regenerated and requests that were edited are in `abandoned_branches`. If a file holds several conversations,
each is a thread of a transcript without turns. The note on how long the model thought is left out. Times are in seconds
since 1970, and become ISO 8601.
"""

from __future__ import annotations

from collections.abc import Iterator

from ctxmem_mcp.models import INJECTED, THINKING, NewTurn, Role, iso
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.transcripts.base import ParseLog, Transcript, compact_json, text_or_json
from ctxmem_mcp.transcripts.json_documents import read_document
from ctxmem_mcp.transcripts.json_lines import Row, text_or_none

AGENT = "chatgpt"
_MAPPING = lazy_regex(r'"mapping"\s*:\s*\{')
_NODE = lazy_regex(r'"(?:parent|children|message)"\s*:')
# Content types whose text is in fields of their own.
_TEXT_FIELDS = {
    "user_editable_context": ("user_profile", "user_instructions"),
    "model_editable_context": ("model_set_context", "repository", "repo_summary", "structured_context"),
    "tether_browsing_display": ("result", "summary"),
    "reasoning_recap": (),
}
_AUDIO = "audio_transcription"
_CONTEXT_TYPES = ("user_editable_context", "model_editable_context")
# A later time is not one in seconds.
_YEAR_3000 = 32_503_680_000


def looks_like(name: str, head: str) -> bool:
    """Recognises a conversation, or a list of them, by its mapping of nodes."""
    start = head.lstrip()
    return start[:1] in ("{", "[") and bool(_MAPPING.search(start)) and bool(_NODE.search(start))


def parse(text: str, name: str) -> Transcript:
    """Returns the conversation in a file, or its conversations as threads."""
    log = ParseLog()
    body = read_document(text, log)
    listed = body if isinstance(body, list) else [body]
    conversations = [_conversation(one, log) for one in listed if isinstance(one, dict) and _nodes(one)]
    warnings = tuple(dict.fromkeys(log.warnings))
    if len(conversations) == 1:
        only = conversations[0]
        return Transcript(
            AGENT, only.session_id, only.turns, only.title,
            abandoned_branches=only.abandoned_branches, warnings=warnings,
        )  # fmt: skip
    return Transcript(AGENT, "", (), threads=tuple(conversations), warnings=warnings)


def _conversation(conversation: Row, log: ParseLog) -> Transcript:
    nodes = _nodes(conversation)
    session = text_or_none(conversation.get("conversation_id")) or text_or_none(conversation.get("id")) or ""
    branches = _branches(nodes, conversation.get("current_node"))
    *abandoned, turns = [log.sanitize(enumerate(_turns(branch), 1)) for branch in branches]
    return Transcript(
        AGENT,
        session,
        turns,
        text_or_none(conversation.get("title")),
        abandoned_branches=tuple(branch for branch in abandoned if branch and branch != turns[: len(branch)]),
    )


# ---------------------------------------------------------------- the tree


def _nodes(conversation: Row) -> dict[str, Row]:
    mapping = conversation.get("mapping")
    return {key: node for key, node in mapping.items() if isinstance(node, dict)} if isinstance(mapping, dict) else {}


def _parents(nodes: dict[str, Row]) -> dict[str, str | None]:
    """Returns each node's parent. A node that names none (the file was cut off within it) follows the one before it."""
    parents: dict[str, str | None] = {}
    before: str | None = None
    for key, node in nodes.items():
        parent = node.get("parent", before)
        parents[key] = parent if isinstance(parent, str) and parent in nodes else None
        before = key
    return parents


def _branches(nodes: dict[str, Row], current: object) -> list[list[Row]]:
    """Returns the branches from the root to each tip, last the current one (the last node's if that is missing)."""
    parents = _parents(nodes)
    inner = set(parents.values())
    tip = current if isinstance(current, str) and current in nodes else [*nodes][-1]
    tips = [key for key in nodes if key not in inner and key != tip]
    return [_path_to(key, nodes, parents) for key in (*tips, tip)]


def _path_to(tip: str, nodes: dict[str, Row], parents: dict[str, str | None]) -> list[Row]:
    path: dict[str, Row] = {}
    key: str | None = tip
    while key is not None and key not in path:
        path[key] = nodes[key]
        key = parents[key]
    return [*reversed(path.values())]


# ---------------------------------------------------------------- messages


def _turns(branch: list[Row]) -> Iterator[NewTurn]:
    call_id: str | None = None
    tool: str | None = None
    for node in branch:
        message = node.get("message")
        if not isinstance(message, dict):
            continue
        author, content = message.get("author"), message.get("content")
        author = author if isinstance(author, dict) else {}
        content = content if isinstance(content, dict) else {}
        role, said_at = author.get("role"), _timestamp(message.get("create_time"))
        recipient = text_or_none(message.get("recipient")) or "all"
        if role == "assistant" and recipient != "all":
            call_id, tool = text_or_none(message.get("id")) or text_or_none(node.get("id")), recipient
            yield NewTurn("assistant", _arguments(content), recipient, said_at, call_id)
        elif role == "tool":
            for text in [*_texts(content)] or [""]:
                yield NewTurn("tool", text, text_or_none(author.get("name")) or tool, said_at, call_id)
        else:
            if role in ("user", "assistant") and content.get("content_type") != "thoughts":
                call_id = tool = None
            turn_role, name = _role_and_name(message, role, content)
            yield from (NewTurn(turn_role, text, name, said_at) for text in _texts(content) if text)


def _arguments(content: Row) -> str:
    texts = [*_texts(content)]
    return "" if not texts else texts[0] if len(texts) == 1 else compact_json(texts)


def _role_and_name(message: Row, role: object, content: Row) -> tuple[Role, str | None]:
    metadata = message.get("metadata")
    is_hidden = isinstance(metadata, dict) and metadata.get("is_visually_hidden_from_conversation")
    if is_hidden or role not in ("user", "assistant") or content.get("content_type") in _CONTEXT_TYPES:
        return "system", INJECTED
    if role == "user":
        return "user", None
    return "assistant", THINKING if content.get("content_type") == "thoughts" else None


def _texts(content: Row) -> Iterator[str]:
    """Yields the parts of a message's content, those that are not text as JSON."""
    kind = text_or_none(content.get("content_type")) or "text"
    if kind in _TEXT_FIELDS:
        parts = [content.get(field) for field in _TEXT_FIELDS[kind]]
    elif isinstance(content.get("parts"), list):
        parts = content["parts"]
    elif isinstance(content.get("thoughts"), list):
        parts = [_thought(thought) for thought in content["thoughts"]]
    elif isinstance(content.get("text"), str):
        parts = [content["text"]]
    else:
        parts = [content] if content else []
    for part in parts:
        if isinstance(part, dict) and part.get("content_type") == _AUDIO and isinstance(part.get("text"), str):
            yield part["text"]
        elif part:
            yield text_or_json(part)


def _thought(thought: object) -> object:
    if not isinstance(thought, dict):
        return thought
    return text_or_none(thought.get("content")) or text_or_none(thought.get("summary"))


def _timestamp(seconds: object) -> str | None:
    return iso(seconds) if isinstance(seconds, int | float) and 0 < seconds < _YEAR_3000 else None
