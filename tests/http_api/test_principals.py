"""Two principals and everything that one might try on the other: every route, every tool, every resource."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ctxmem_mcp.http_api.openapi import DOCUMENT
from ctxmem_mcp.http_api.tenants import load_or_create_salt
from ctxmem_mcp.mcp_server.tools import TOOLS
from ctxmem_mcp.settings import Settings
from tests.http_api.conftest import ALICE, BOB, TOKENS
from tests.http_api.test_sessions import created, said

pytestmark = pytest.mark.anyio

SECRET = "QUAGGA-4711 is what only Alice knows"
Two = tuple[httpx2.AsyncClient, httpx2.AsyncClient]
HEADERS = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-11-25"}


async def rpc(http: httpx2.AsyncClient, method: str, **params: Any) -> dict[str, Any]:
    """One MCP request, by hand: its whole answer."""
    answer = await http.post(
        "/mcp", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, headers=HEADERS
    )
    assert answer.status_code == 200, answer.text
    data = next(line[6:] for line in answer.text.splitlines() if line.startswith("data: {"))
    told = json.loads(data)
    assert isinstance(told, dict)
    return told


async def call(http: httpx2.AsyncClient, tool: str, **arguments: Any) -> dict[str, Any]:
    result: Any = (await rpc(http, "tools/call", name=tool, arguments=arguments))["result"]
    assert isinstance(result, dict)
    return result


class Known:
    """What Alice has, and what Bob would need to know of it."""

    def __init__(self, session: str, turn: str, node: str, space: str) -> None:
        self.session, self.turn, self.node, self.space = session, turn, node, space


async def alices(alice: httpx2.AsyncClient) -> Known:
    space = (await alice.post("/v1/spaces", json={"name": SECRET})).json()["data"]["id"]
    session = (await created(alice, name=SECRET, system_prompt=SECRET, space_id=space))["id"]
    turn = (await said(alice, session, "user", SECRET))["id"]
    for i in range(30):
        await said(alice, session, "user", f"Request {i}: " + f"about matter {i} " * 40)
        await said(alice, session, "assistant", f"Answer {i}: " + f"of matter {i} " * 40)
    tree = (await rpc(alice, "resources/read", uri=f"ctxmem://conversations/{session}/tree"))["result"]
    node = next(n["id"] for n in json.loads(tree["contents"][0]["text"])["nodes"] if n["id"])
    return Known(session, turn, node, space)


def arguments_on(tool: str, known: Known) -> dict[str, Any]:
    """The call that would reach Alice's conversation if anything could."""
    calls: dict[str, dict[str, Any]] = {
        "append_turn": {"role": "user", "content": "hi", "conversation_id": known.session, "parent_id": known.turn},
        "sync_transcript": {
            "messages": [{"role": "user", "content": "hi"}], "conversation_id": known.session, "after": known.turn,
        },
        "get_context": {"conversation_id": known.session, "query": "QUAGGA"},
        "expand_node": {"conversation_id": known.session, "node_id": known.node},
        "search_turns": {"query": "QUAGGA-4711 Alice knows", "conversation_id": known.session},
        "revert_to": {"conversation_id": known.session, "turn_id": known.turn},
        "forget_conversation": {"conversation_id": known.session, "confirm": known.session},
        "list_conversations": {},
        "write_summary": {"conversation_id": known.session, "node_id": known.node, "title": "t", "summary": "s"},
        "hand_off": {"conversation_id": known.session},
    }  # fmt: skip
    return calls[tool]


# Tools that need no conversation to be there: they may answer, of the asking principal's own.
ANSWERING = {"list_conversations"}


@pytest.mark.parametrize("tool", [tool.name for tool in TOOLS])
async def test_no_tool_reaches_anothers_conversation(two: Two, tool: str) -> None:
    alice, bob = two
    known = await alices(alice)
    before = await untouched(alice, known)
    result = await call(bob, tool, **arguments_on(tool, known))
    assert "QUAGGA" not in json.dumps(result)
    assert "matter" not in json.dumps(result)
    assert bool(result.get("isError")) is (tool not in ANSWERING)
    assert await untouched(alice, known) == before
    # The same call on one's own works: what is refused is refused for whose it is.
    assert not (await call(alice, tool, **arguments_on(tool, known))).get("isError")


async def untouched(alice: httpx2.AsyncClient, known: Known) -> Any:
    return (await alice.get(f"/v1/chat/sessions/{known.session}")).json()["data"]


async def test_a_global_search_covers_only_the_principals_own_turns(two: Two) -> None:
    alice, bob = two
    await alices(alice)
    assert "QUAGGA" in json.dumps(await call(alice, "search_turns", query="QUAGGA-4711 Alice knows"))
    assert "QUAGGA" not in json.dumps((await call(bob, "search_turns", query="QUAGGA-4711 Alice knows"))["content"])


async def test_no_resource_completion_or_prompt_shows_anothers(two: Two) -> None:
    alice, bob = two
    known = await alices(alice)
    root = f"ctxmem://conversations/{known.session}"
    for uri in (f"{root}/tree", f"{root}/usage", f"{root}/nodes/{known.node}", f"{root}/turns/{known.turn}"):
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
        assert known.session in json.dumps(await rpc(alice, method, **params))
        assert known.session not in json.dumps(await rpc(bob, method, **params))
    for name in ("recall", "resume", "hand_off"):
        told = json.dumps(await rpc(bob, "prompts/get", name=name, arguments={"conversation_id": known.session}))
        assert "QUAGGA" not in told


def attempts() -> list[tuple[str, str]]:
    """Every operation of the document on something that is Alice's."""
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
    known = await alices(alice)
    before = await untouched(alice, known)
    filled = path.replace("{session_id}", known.session).replace("{space_id}", known.space)
    body = next((body for part, body in BODIES.items() if part in path), None)
    answer = await bob.request(method, filled, json=body if method in ("POST", "PUT", "PATCH") else None)
    assert "QUAGGA" not in answer.text
    assert answer.status_code == (404 if "{" in path else 200)
    assert await untouched(alice, known) == before
    mine = await alice.get(f"/v1/spaces/{known.space}")
    assert mine.json()["data"]["name"] == SECRET


async def test_the_same_messages_of_two_principals_are_two_conversations(two: Two, settings: Settings) -> None:
    """Nobody finds out by sending them whether somebody else has said these words."""
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
        await created(http)
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


# ---------------------------------------------------------------- who is let in


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
    answer = await http.post(path, json={}, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert not (settings.data_dir / "principals").exists()


@pytest.mark.parametrize("path", ["/health", "/ready", "/openapi.json"])
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
