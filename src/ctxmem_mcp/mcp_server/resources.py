"""Resources: the conversations, and the tree, nodes, turns and usage of each; completion of their ids.

    ctxmem://conversations
    ctxmem://conversations/{conversation_id}/tree            JSON: the outline with summaries
    ctxmem://conversations/{conversation_id}/nodes/{node_id} text: the result of expand_node
    ctxmem://conversations/{conversation_id}/turns/{turn_id} text: the turn, byte for byte
    ctxmem://conversations/{conversation_id}/usage           JSON: sizes, retention, cost of models and of the gateway
    ui://ctxmem/tree.html                                    the app in which some hosts show the result of get_context

An agent never needs them, only the tools: in most hosts only the user can attach resources.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from mcp.types import (
    Completion,
    CompletionArgument,
    CompletionContext,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    TextResourceContents,
)

from ctxmem_mcp import page_files
from ctxmem_mcp.errors import NotFound
from ctxmem_mcp.mcp_server.notifications import ROOT_URI, tree_uri
from ctxmem_mcp.mcp_server.tools import APP_URI
from ctxmem_mcp.models import iso
from ctxmem_mcp.results import ConversationInfo, OutlineNode

if TYPE_CHECKING:
    from ctxmem_mcp.memory import Memory

JSON_TYPE, TEXT_TYPE = "application/json", "text/plain"
# A tree of more nodes than this is cut at a depth; nodes/{node_id} expands the rest.
FULL_TREE_NODES_MAX, CUT_DEPTH = 400, 2
NODE_TOKENS = 20_000
PAGE_SIZE, COMPLETIONS_MAX, TURN_COMPLETIONS_MAX = 50, 100, 20

TEMPLATES: tuple[ResourceTemplate, ...] = tuple(
    ResourceTemplate(
        uri_template=f"{ROOT_URI}/{{conversation_id}}/{path}",
        name=name,
        title=title,
        description=description,
        mime_type=mime_type,
    )
    for path, name, title, description, mime_type in (
        (
            "tree",
            "tree",
            "Conversation tree",
            "The nodes, their summaries, and the branches.",
            JSON_TYPE,
        ),
        ("nodes/{node_id}", "node", "Node", "The outline and the turns of a node, within 20,000 tokens.", TEXT_TYPE),
        ("turns/{turn_id}", "turn", "Turn", "One turn, byte for byte.", TEXT_TYPE),
        (
            "usage",
            "usage",
            "Usage",
            "Turns, tokens, branches, bytes and retention; the cost of model calls and of the gateway.",
            JSON_TYPE,
        ),
    )
)

CONVERSATIONS = Resource(
    uri=ROOT_URI,
    name="conversations",
    title="Conversations",
    description="All conversations, last active first.",
    mime_type=JSON_TYPE,
)


# What the extension `io.modelcontextprotocol/ui` (MCP Apps) calls the type of an app. The app asks no other host.
APP_TYPE = "text/html;profile=mcp-app"
_APP_META = {"ui": {"csp": {}, "prefersBorder": True}}
APP = Resource(
    uri=APP_URI,
    name="tree",
    title="Memory",
    description="Shows what get_context returned, opens the ids in it, and asks again.",
    mime_type=APP_TYPE,
    _meta=_APP_META,
)


class UnknownResource(NotFound):
    def __init__(self, uri: str) -> None:
        super().__init__(f"No resource {uri!r}.", f"Read {ROOT_URI}, or list the resource templates.")


async def list_resources(memory: Memory, cursor: str | None) -> tuple[list[Resource], str | None]:
    """A page of conversations as resources to pick from, and the cursor of the next page."""
    page = await memory.conversations(limit=PAGE_SIZE, cursor=cursor)
    trees = [
        Resource(
            uri=tree_uri(info.conversation_id),
            name=info.conversation_id,
            title=info.title or info.conversation_id,
            description=f"{info.turns} turns, {info.tokens} tokens, last active {info.last_activity}",
            mime_type=JSON_TYPE,
        )
        for info in page.conversations
    ]
    return trees if cursor else [CONVERSATIONS, APP, *trees], page.next_cursor


async def read_resource(memory: Memory, uri: str) -> ReadResourceResult:
    """The resource's content. Raises NotFound if there is none at this URI."""
    if uri == APP_URI:
        app = TextResourceContents(uri=uri, text=page_files.app_document(), mime_type=APP_TYPE, _meta=_APP_META)
        return ReadResourceResult(contents=[app])
    text, mime_type = await _content(memory, uri)
    return ReadResourceResult(contents=[TextResourceContents(uri=uri, text=text, mime_type=mime_type)])


async def _content(memory: Memory, uri: str) -> tuple[str, str]:
    if uri == ROOT_URI:
        return await _conversations(memory), JSON_TYPE
    path = uri.removeprefix(f"{ROOT_URI}/") if uri.startswith(f"{ROOT_URI}/") else ""
    match [unquote(step) for step in path.split("/")]:
        case [conversation, "tree"] if conversation:
            return await _tree(memory, conversation), JSON_TYPE
        case [conversation, "usage"] if conversation:
            return await _usage(memory, conversation), JSON_TYPE
        case [conversation, "nodes", node] if conversation and node:
            view = await memory.expand(conversation, node, token_budget=NODE_TOKENS)
            return view.render(), TEXT_TYPE
        case [conversation, "turns", turn] if conversation and turn:
            return (await memory.turn(conversation, turn)).content, TEXT_TYPE
    raise UnknownResource(uri)


async def _conversations(memory: Memory) -> str:
    page = await memory.conversations(limit=PAGE_SIZE)
    return _json({"conversations": page.conversations, "next_cursor": page.next_cursor})


async def _tree(memory: Memory, conversation: str) -> str:
    state = await memory.info(conversation)
    depth = None if state.nodes <= FULL_TREE_NODES_MAX else CUT_DEPTH
    nodes = await memory.outline(conversation, depth=depth)
    tips, head = await memory.branches(conversation), await memory.head(conversation)
    return _json(
        {
            "conversation_id": conversation,
            "title": state.title,
            "turns": state.turns,
            "tokens": state.tokens,
            "levels_shown": depth,
            "branches": [{"last_turn": tip.id, "head": tip.seq == head.seq} for tip in tips],
            "nodes": [_node(node) for node in nodes],
        }
    )


def _node(node: OutlineNode) -> dict[str, Any]:
    summary = node.summary
    return {
        "id": node.id,
        "turns": f"t{node.first}-t{node.last}",
        "tokens": node.tokens,
        "title": summary.title,
        "highlights": [{"kind": line.kind, "turn": f"t{line.index}", "text": line.text} for line in summary.highlights],
        "children": [_node(child) for child in node.children],
    }


async def _usage(memory: Memory, conversation: str) -> str:
    state = await memory.info(conversation)
    info = await _listed_info(memory, conversation)
    return _json(
        {
            "conversation_id": conversation,
            "turns": state.turns,
            "tokens": state.tokens,
            "encoding": state.encoding,
            "nodes": state.nodes,
            "branches": len(await memory.branches(conversation)),
            "bytes": info.bytes if info else None,
            "retention_days": state.retention_days,
            "created_at": iso(state.created),
            "last_activity": iso(state.updated),
            "expires_at": iso(state.expires),
            "model_calls": await memory.model_usage(conversation),
            "gateway": await memory.gateway_usage(conversation),
        }
    )


async def _listed_info(memory: Memory, conversation: str) -> ConversationInfo | None:
    cursor: str | None = None
    while True:
        page = await memory.conversations(limit=COMPLETIONS_MAX, cursor=cursor)
        for info in page.conversations:
            if info.conversation_id == conversation:
                return info
        cursor = page.next_cursor
        if cursor is None:
            return None


def _json(value: Any) -> str:
    from pydantic_core import to_jsonable_python

    return json.dumps(to_jsonable_python(value), ensure_ascii=False, separators=(",", ":"))


# ---------------------------------------------------------------- completion


async def complete(memory: Memory, argument: CompletionArgument, context: CompletionContext | None) -> Completion:
    """Ids that start with the typed text. Node and turn ids require a conversation_id in the context."""
    conversation = ((context.arguments if context else None) or {}).get("conversation_id", "")
    if argument.name == "conversation_id":
        found = await _conversation_ids(memory, argument.value)
    elif argument.name in ("node_id", "turn_id") and conversation:
        found = await _ids_in_conversation(memory, conversation, argument.name, argument.value)
    else:
        found = []
    return Completion(values=found[:COMPLETIONS_MAX], total=len(found), has_more=len(found) > COMPLETIONS_MAX)


async def _conversation_ids(memory: Memory, typed: str) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while len(found) <= COMPLETIONS_MAX:
        page = await memory.conversations(limit=COMPLETIONS_MAX, cursor=cursor)
        found += [i.conversation_id for i in page.conversations if i.conversation_id.startswith(typed)]
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


async def _ids_in_conversation(memory: Memory, conversation: str, kind: str, typed: str) -> list[str]:
    try:
        nodes = await memory.outline(conversation)
        if kind == "node_id":
            return [node_id for node_id in _node_ids(nodes) if node_id.startswith(typed)]
        last = max((node.last for node in nodes), default=-1)
        return [(await memory.turn(conversation, turn)).id for turn in _turns_starting_with(typed, last)]
    except NotFound:
        return []


def _node_ids(nodes: Sequence[OutlineNode]) -> Iterable[str]:
    for node in nodes:
        if node.id:
            yield node.id
        yield from _node_ids(node.children)


def _turns_starting_with(typed: str, last: int) -> list[str]:
    """The turns whose ids start with the typed text, newest first: t4, t40, t41, ... for 't4'; one for 't41-8'."""
    index, dash, _ = typed.removeprefix("t").partition("-")
    if dash:
        return [typed.rstrip("-")]
    matching = (f"t{i}" for i in range(last, -1, -1) if f"t{i}".startswith(f"t{index}"))
    return [turn for turn, _ in zip(matching, range(TURN_COMPLETIONS_MAX), strict=False)]
