"""Resources, completion and notifications, in memory, in both protocol eras."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

import anyio
import pytest
from mcp import Client, MCPDeprecationWarning, MCPError
from mcp.server import Server
from mcp.server.subscriptions import ResourceUpdated
from mcp.types import PromptReference, ResourceTemplateReference, TextResourceContents

from ctxmem_mcp.mcp_server.lazy_memory import LazyMemory
from tests.mcp_server.conftest import Caller

pytestmark = pytest.mark.anyio

ROOT, APP = "ctxmem://conversations", "ui://ctxmem/tree.html"
STORY = ["The build fails with E0308 in limits.py", "I changed the parser to take integers " + "and so on " * 400]


async def read(client: Client, uri: str) -> tuple[str, str]:
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, TextResourceContents)
    assert str(content.uri) == uri
    return content.text, content.mime_type or ""


async def read_json(client: Client, uri: str) -> dict[str, Any]:
    text, mime_type = await read(client, uri)
    assert mime_type == "application/json"
    found: dict[str, Any] = json.loads(text)
    return found


async def store(call: Caller, times: int = 6, conversation: str = "c") -> list[dict[str, Any]]:
    stored = []
    for i in range(times):
        stored.append(await call.append(f"{STORY[0]} ({i})", conversation))
        stored.append(await call.append(f"{STORY[1]} ({i})", conversation, role="assistant"))
    return stored


async def test_the_templates_are_those_of_the_contract(client: Client) -> None:
    templates = (await client.list_resource_templates()).resource_templates
    assert {t.uri_template: t.mime_type for t in templates} == {
        f"{ROOT}/{{conversation_id}}/tree": "application/json",
        f"{ROOT}/{{conversation_id}}/nodes/{{node_id}}": "text/plain",
        f"{ROOT}/{{conversation_id}}/turns/{{turn_id}}": "text/plain",
        f"{ROOT}/{{conversation_id}}/usage": "application/json",
    }


async def test_conversations_are_listed_in_pages(call: Caller) -> None:
    for i in range(60):
        await call.append("hi", f"c{i}")
    first = await call.client.list_resources()
    rest = await call.client.list_resources(cursor=first.next_cursor)
    uris = [str(r.uri) for r in first.resources + rest.resources]
    assert uris[:2] == [ROOT, APP]
    assert sorted(uris[2:]) == sorted(f"{ROOT}/c{i}/tree" for i in range(60))
    assert rest.next_cursor is None
    listed = await read_json(call.client, ROOT)
    assert len(listed["conversations"]) == 50


async def test_the_app_is_declared_and_allows_only_its_own_code(call: Caller) -> None:
    tools = {tool.name: tool for tool in (await call.client.list_tools()).tools}
    assert (tools["get_context"].meta or {})["ui"] == {"resourceUri": APP}
    (app,) = (await call.client.read_resource(APP)).contents
    assert isinstance(app, TextResourceContents)
    assert app.mime_type == "text/html;profile=mcp-app"
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', app.text)
    for tag in ("script", "style"):
        (code,) = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", app.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.search(r"^(import|export) ", app.text, re.MULTILINE)


async def test_the_tree_covers_every_turn_once_and_its_ids_can_be_read(call: Caller) -> None:
    await store(call)
    tree = await read_json(call.client, f"{ROOT}/c/tree")
    assert (tree["turns"], len(tree["branches"])) == (12, 1)
    spans = [node["turns"] for node in tree["nodes"]]
    covered = [i for span in spans for i in range(int(span[1:].split("-t")[0]), int(span.split("-t")[1]) + 1)]
    assert covered == list(range(12))
    closed = next(node["id"] for node in tree["nodes"] if node["id"])
    text, mime_type = await read(call.client, f"{ROOT}/c/nodes/{closed}")
    assert mime_type == "text/plain"
    assert STORY[0] in text


async def test_a_turn_reads_byte_for_byte(call: Caller) -> None:
    content = "a\r\nb\u2028 \x00 <|endoftext|> \n"
    done = await call.append(content)
    assert await read(call.client, f"{ROOT}/c/turns/{done['turn_id']}") == (content, "text/plain")


async def test_usage_contains_sizes_and_retention(call: Caller) -> None:
    stored = await store(call, 2)
    await call.append("other", parent_id=stored[0]["turn_id"], retention_days=90)
    usage = await read_json(call.client, f"{ROOT}/c/usage")
    assert (usage["turns"], usage["branches"], usage["retention_days"]) == (5, 2, 90)
    assert usage["tokens"] > 800
    assert usage["bytes"] > 0
    assert usage["model_calls"] == {
        "calls": 0, "kept": 0, "tokens_in": 0, "tokens_out": 0, "tokens_per_conversation": None, "tokens_today": 0,
        "tokens_per_day": None,
    }  # fmt: skip
    assert usage["gateway"]["data"] == []
    assert usage["gateway"]["total"]["requests"] == 0


@pytest.mark.parametrize(
    "path",
    [
        "/nope/tree",
        "/c/tree/more",
        "/c/turns/t99",
        "/c/nodes/n0-1-000",
        "/c/nothing",
        "/",
        "/c/turns/",
        "/%2e%2e/tree",
        "/..%2f..%2fetc%2fpasswd/tree",
        "/a%00b/usage",
    ],
)
async def test_an_unknown_resource_is_an_error_that_names_its_uri(call: Caller, path: str) -> None:
    await call.append("hello")
    with pytest.raises(MCPError) as refused:
        await call.client.read_resource(ROOT + path)
    assert refused.value.code == -32602
    assert refused.value.error.data == {"uri": ROOT + path}


# ---------------------------------------------------------------- completion


async def completed(client: Client, name: str, value: str, conversation: str | None = None) -> list[str]:
    ref = ResourceTemplateReference(uri=f"{ROOT}/{{conversation_id}}/{name.removesuffix('_id')}s/{{{name}}}")
    context = {"conversation_id": conversation} if conversation else None
    found = await client.complete(ref, {"name": name, "value": value}, context)
    return found.completion.values


async def test_ids_are_completed_from_a_prefix(call: Caller) -> None:
    stored = await store(call)
    await call.append("hi", "other")
    client = call.client
    assert await completed(client, "conversation_id", "c") == ["c"]
    assert sorted(await completed(client, "conversation_id", "")) == ["c", "other"]
    assert await completed(client, "turn_id", "t1", "c") == [
        stored[11]["turn_id"],
        stored[10]["turn_id"],
        stored[1]["turn_id"],
    ]
    assert await completed(client, "turn_id", stored[3]["turn_id"][:6], "c") == [stored[3]["turn_id"]]
    nodes = await completed(client, "node_id", "n0-", "c")
    assert nodes
    assert all(node.startswith("n0-") for node in nodes)
    assert await completed(client, "node_id", "n0-") == []
    assert await completed(client, "turn_id", "t1", "nope") == []


async def test_at_most_a_hundred_completions_are_returned(call: Caller) -> None:
    for i in range(103):
        await call.append("hi", f"c{i}")
    found = await call.client.complete(PromptReference(name="recall"), {"name": "conversation_id", "value": "c"})
    assert len(found.completion.values) == 100
    assert found.completion.has_more is True


# ---------------------------------------------------------------- notifications


async def test_a_listener_is_notified_when_a_conversation_changes(server: Server[LazyMemory]) -> None:
    tree = f"{ROOT}/c/tree"
    async with Client(server) as client, client.listen(resource_subscriptions=[tree]) as stream:
        call, events = Caller(client), aiter(stream)

        async def expect_update() -> None:
            with anyio.fail_after(60):
                assert await anext(events) == ResourceUpdated(uri=tree)

        first = await call.append("one")
        await expect_update()
        await call.append("two")
        await expect_update()
        await call.record("revert_to", conversation_id="c", turn_id=first["turn_id"])
        await expect_update()
        # All turns are known: nothing changed, so there is no notification.
        await call.record("sync_transcript", conversation_id="c", messages=[{"role": "user", "content": "one"}])
        await call.append("elsewhere", "other")
        await call.record("forget_conversation", conversation_id="c", confirm="c")
        await expect_update()
        with anyio.move_on_after(0.05) as quiet:
            await anext(events)
        assert quiet.cancelled_caught


async def test_an_older_client_is_notified_on_its_connection(server: Server[LazyMemory]) -> None:
    tree, updated, arrived = f"{ROOT}/c/tree", [], anyio.Event()

    async def on_message(message: Any) -> None:
        if getattr(message, "method", None) == "notifications/resources/updated":
            updated.append(str(message.params.uri))
            arrived.set()

    async with Client(server, mode="legacy", message_handler=on_message) as client:
        capabilities = client.server_capabilities
        assert capabilities is not None
        assert capabilities.resources is not None
        assert capabilities.resources.subscribe is True
        with pytest.warns(MCPDeprecationWarning):
            await client.subscribe_resource(tree)
        await Caller(client).append("one")
        with anyio.fail_after(60):
            await arrived.wait()
        with pytest.warns(MCPDeprecationWarning):
            await client.unsubscribe_resource(tree)
        await Caller(client).append("two")
    assert updated == [tree]
