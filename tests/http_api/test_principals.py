"""Isolation of two principals, for every route, tool and resource; and authentication by token."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ctxmem_mcp.http_api.openapi import DOCUMENT
from ctxmem_mcp.mcp_server.tools import TOOLS
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.team.folders import load_or_create_salt
from tests.http_api.conftest import ALICE, BOB, TOKENS
from tests.http_api.test_sessions import add_message, create

pytestmark = pytest.mark.anyio

SECRET = "QUAGGA-4711 is what only Alice knows"
Two = tuple[httpx2.AsyncClient, httpx2.AsyncClient]
HEADERS = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}


async def rpc(http: httpx2.AsyncClient, method: str, **params: Any) -> dict[str, Any]:
    """Sends one MCP request; returns the JSON-RPC response."""
    reply = await http.post(
        "/mcp", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, headers=HEADERS
    )
    assert reply.status_code == 200, reply.text
    data = next(line[6:] for line in reply.text.splitlines() if line.startswith("data: {"))
    response = json.loads(data)
    assert isinstance(response, dict)
    return response


async def call(http: httpx2.AsyncClient, tool: str, **arguments: Any) -> dict[str, Any]:
    result: Any = (await rpc(http, "tools/call", name=tool, arguments=arguments))["result"]
    assert isinstance(result, dict)
    return result


class Ids:
    """The ids of Alice's data, which Bob would need."""

    def __init__(self, session: str, turn: str, node: str, space: str) -> None:
        self.session, self.turn, self.node, self.space = session, turn, node, space


async def create_data(alice: httpx2.AsyncClient) -> Ids:
    space = (await alice.post("/v1/spaces", json={"name": SECRET})).json()["data"]["id"]
    session = (await create(alice, name=SECRET, system_prompt=SECRET, space_id=space))["id"]
    turn = (await add_message(alice, session, "user", SECRET))["id"]
    for i in range(30):
        await add_message(alice, session, "user", f"Request {i}: " + f"about matter {i} " * 40)
        await add_message(alice, session, "assistant", f"Answer {i}: " + f"of matter {i} " * 40)
    tree = (await rpc(alice, "resources/read", uri=f"ctxmem://conversations/{session}/tree"))["result"]
    node = next(n["id"] for n in json.loads(tree["contents"][0]["text"])["nodes"] if n["id"])
    return Ids(session, turn, node, space)


def arguments_on(tool: str, ids: Ids) -> dict[str, Any]:
    """Returns arguments for a call that targets Alice's conversation."""
    calls: dict[str, dict[str, Any]] = {
        "append_turn": {"role": "user", "content": "hi", "conversation_id": ids.session, "parent_id": ids.turn},
        "sync_transcript": {
            "messages": [{"role": "user", "content": "hi"}], "conversation_id": ids.session, "after": ids.turn,
        },
        "get_context": {"conversation_id": ids.session, "query": "QUAGGA"},
        "expand_node": {"conversation_id": ids.session, "node_id": ids.node},
        "search_turns": {"query": "QUAGGA-4711 Alice knows", "conversation_id": ids.session},
        "revert_to": {"conversation_id": ids.session, "turn_id": ids.turn},
        "forget_conversation": {"conversation_id": ids.session, "confirm": ids.session},
        "list_conversations": {},
        "write_summary": {"conversation_id": ids.session, "node_id": ids.node, "title": "t", "summary": "s"},
        "hand_off": {"conversation_id": ids.session},
    }  # fmt: skip
    return calls[tool]


# Tools that need no conversation: they succeed, with the principal's own data.
SUCCEEDING = {"list_conversations"}


@pytest.mark.parametrize("tool", [tool.name for tool in TOOLS])
async def test_no_tool_reaches_anothers_conversation(two: Two, tool: str) -> None:
    alice, bob = two
    ids = await create_data(alice)
    before = await session_of(alice, ids)
    result = await call(bob, tool, **arguments_on(tool, ids))
    assert "QUAGGA" not in json.dumps(result)
    assert "matter" not in json.dumps(result)
    assert bool(result.get("isError")) is (tool not in SUCCEEDING)
    assert await session_of(alice, ids) == before
    # Alice's own call succeeds, so Bob's fails because of the principal.
    assert not (await call(alice, tool, **arguments_on(tool, ids))).get("isError")


async def session_of(alice: httpx2.AsyncClient, ids: Ids) -> Any:
    return (await alice.get(f"/v1/chat/sessions/{ids.session}")).json()["data"]


async def test_a_global_search_covers_only_the_principals_own_turns(two: Two) -> None:
    alice, bob = two
    await create_data(alice)
    assert "QUAGGA" in json.dumps(await call(alice, "search_turns", query="QUAGGA-4711 Alice knows"))
    assert "QUAGGA" not in json.dumps((await call(bob, "search_turns", query="QUAGGA-4711 Alice knows"))["content"])


async def test_no_resource_completion_or_prompt_shows_anothers(two: Two) -> None:
    alice, bob = two
    ids = await create_data(alice)
    root = f"ctxmem://conversations/{ids.session}"
    for uri in (f"{root}/tree", f"{root}/usage", f"{root}/nodes/{ids.node}", f"{root}/turns/{ids.turn}"):
        assert "result" in await rpc(alice, "resources/read", uri=uri)
        assert "error" in await rpc(bob, "resources/read", uri=uri)
    for method, params in (
        ("resources/read", {"uri": "ctxmem://conversations"}),
        ("resources/list", {}),
        (
            "completion/complete",
            {
                "ref": {"type": "ref/resource", "uri": "ctxmem://conversations/{conversation_id}/tree"},
                "argument": {"name": "conversation_id", "value": "s"},
            },
        ),
    ):
        assert ids.session in json.dumps(await rpc(alice, method, **params))
        assert ids.session not in json.dumps(await rpc(bob, method, **params))
    for name in ("recall", "resume", "hand_off"):
        text = json.dumps(await rpc(bob, "prompts/get", name=name, arguments={"conversation_id": ids.session}))
        assert "QUAGGA" not in text


def attempts() -> list[tuple[str, str]]:
    """Returns the documented operations on sessions and spaces."""
    return [
        (method.upper(), path)
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
        if method in ("get", "post", "put", "patch", "delete") and path.startswith(("/v1/chat/sessions", "/v1/spaces"))
    ]


BODIES = {"/messages": {"role": "user", "content": "hi"}, "/v1/spaces": {"name": "mine"}}


@pytest.mark.parametrize(("method", "path"), attempts())
async def test_no_route_reaches_anothers_data(two: Two, method: str, path: str) -> None:
    alice, bob = two
    ids = await create_data(alice)
    before = await session_of(alice, ids)
    filled = path.replace("{session_id}", ids.session).replace("{space_id}", ids.space)
    body = next((body for part, body in BODIES.items() if part in path), None)
    response = await bob.request(method, filled, json=body if method in ("POST", "PUT", "PATCH") else None)
    assert "QUAGGA" not in response.text
    assert response.status_code == (404 if "{" in path else 200)
    assert await session_of(alice, ids) == before
    mine = await alice.get(f"/v1/spaces/{ids.space}")
    assert mine.json()["data"]["name"] == SECRET


async def test_the_same_messages_of_two_principals_are_two_conversations(two: Two, settings: Settings) -> None:
    """Sending messages does not reveal whether another principal has stored them."""
    alice, bob = two
    body = {"messages": [{"role": "user", "content": SECRET}, {"role": "assistant", "content": "ok"}]}
    first, second = await alice.post("/v1/memory", json=body), await bob.post("/v1/memory", json=body)
    assert second.json()["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert first.headers["x-ctxmem-conversation"] != second.headers["x-ctxmem-conversation"]
    assert first.headers["x-ctxmem-head"] != second.headers["x-ctxmem-head"]
    again = await alice.post("/v1/memory", json=body)
    assert again.json()["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


async def test_two_principals_may_use_the_same_id(two: Two) -> None:
    alice, bob = two
    for http, word in ((alice, "ALPHA"), (bob, "OMEGA")):
        result = await call(http, "append_turn", role="user", content=word, conversation_id="same")
        assert result["structuredContent"]["index"] == 0
    for http, own, other in ((alice, "ALPHA", "OMEGA"), (bob, "OMEGA", "ALPHA")):
        text = json.dumps(await call(http, "get_context", conversation_id="same"))
        assert own in text
        assert other not in text


async def test_folders_do_not_show_names_and_salts_are_private(two: Two, settings: Settings) -> None:
    alice, bob = two
    for http in (alice, bob):
        await create(http)
    folders = sorted((settings.data_dir / "principals").iterdir())
    assert len(folders) == 2
    assert {"alice", "bob"} & {part for folder in folders for part in folder.parts} == set()
    salts = {folder.joinpath("salt").read_bytes() for folder in folders}
    assert len(salts) == 2
    for folder in folders:
        assert stat.S_IMODE((folder / "salt").stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_salt_is_created_once(tmp_path: Path) -> None:
    first = load_or_create_salt(tmp_path / "a")
    assert len(first) == 32
    assert load_or_create_salt(tmp_path / "a") == first
    assert load_or_create_salt(tmp_path / "b") != first
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["salt"]


# ---------------------------------------------------------------- authentication


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {ALICE}x"},
        {"Authorization": f"Bearer {ALICE[:-1]}"},
        {"Authorization": ALICE},
        {"Authorization": f"Basic {ALICE}"},
        {"Authorization": "Bearer alice"},
        {"Authorization": "Bearer " + hashlib.sha256(ALICE.encode()).hexdigest()},
        {"Authorization": "Bearer sha256:" + hashlib.sha256(ALICE.encode()).hexdigest()},
        {"x-api-key": "größer".encode()},
        {"x-ctxmem-token": ""},
    ],
)
@pytest.mark.parametrize("path", ["/mcp", "/v1/memory", "/v1/chat/sessions", "/metrics", "/v1/chat/completions", "/no"])
async def test_requests_without_a_valid_token_are_rejected_everywhere(
    serve: Any, settings: Settings, headers: Any, path: str
) -> None:
    http = await serve(tokens=TOKENS)
    response = await http.post(path, json={}, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert not (settings.data_dir / "principals").exists()


@pytest.mark.parametrize("path", ["/health", "/ready", "/openapi.json", "/.well-known/mcp.json"])
async def test_public_paths_need_no_token(serve: Any, path: str) -> None:
    http = await serve(tokens=TOKENS)
    assert (await http.get(path)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {BOB}"},
        {"authorization": f"bearer {BOB}"},
        {"x-api-key": BOB},
        {"x-ctxmem-token": BOB, "Authorization": "Bearer sk-of-an-upstream"},
    ],
)
async def test_a_token_is_accepted_in_three_headers(serve: Any, headers: dict[str, str]) -> None:
    http = await serve(tokens=TOKENS)
    assert (await http.get("/v1/chat/sessions", headers=headers)).status_code == 200
