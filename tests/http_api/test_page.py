"""The page's files and its JSON: who may read and change what, and that only the page can change anything."""

from __future__ import annotations

import re
from typing import Any

import httpx2
import pytest

from ctxmem_mcp import page_files
from ctxmem_mcp.http_api.app import build_app
from ctxmem_mcp.settings import Settings
from tests.http_api.conftest import client_of, running

pytestmark = pytest.mark.anyio

# Ways to turn a text into markup or code.
UNSAFE = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function")
TURNS = [
    {"role": "user", "content": "Fix the relay <script>alert(1)</script>"},
    {"role": "assistant", "content": "The timeout was 5 s; it is 30 s now."},
    {"role": "user", "content": "Thanks."},
]


async def store(client: httpx2.AsyncClient, conversation_id: str = "relay") -> None:
    call = {"name": "sync_transcript", "arguments": {"conversation_id": conversation_id, "messages": TURNS}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    headers = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}
    response = await client.post("/mcp", json=body, headers=headers)
    assert response.status_code == 200, response.text


async def change(client: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> httpx2.Response:
    token = (await client.get("/ui/api/start")).json()["page_token"]
    return await client.post(f"/ui/api/conversations/{path}", json=body, headers={"x-page-token": token})


async def test_every_file_is_served_without_a_token_under_a_policy_without_inline_code(
    two: tuple[httpx2.AsyncClient, httpx2.AsyncClient],
) -> None:
    client = two[0]
    client.headers.pop("Authorization")
    assert (await client.get("/ui")).headers["location"] == "/ui/"
    names = [name for name in page_files.files() if name != "index.html"]
    for name in ("", *names):
        response = await client.get(f"/ui/{name}")
        assert response.status_code == 200, name
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
    assert (await client.get("/ui/none.js")).status_code == 404
    assert (await client.get("/ui/api/conversations")).status_code == 401


def test_the_page_asks_nobody_else_and_is_small() -> None:
    files = {name: content.decode() for name, content in page_files.files().items()}
    assert sum(map(len, files.values())) < 300_000
    for name, text in files.items():
        addresses = set(re.findall(r"https?://[^\"'\s<)]+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            name
        )
    assert not re.search(r"<(script|style)>|\son\w+=|\sstyle=", files["index.html"])


async def test_the_page_reads_a_conversation(http: httpx2.AsyncClient) -> None:
    await store(http)
    (listed,) = (await http.get("/ui/api/conversations")).json()["conversations"]
    assert (listed["conversation_id"], listed["turns"]) == ("relay", 3)
    one = (await http.get("/ui/api/conversations/relay")).json()
    assert [(branch["turn_id"], branch["parts_at"]) for branch in one["branches"]] == [(one["head"], 3)]
    nodes = (await http.get("/ui/api/conversations/relay/outline")).json()["nodes"]
    assert sum(node["tokens"] for node in nodes) == one["tokens"]
    turns = (await http.get("/ui/api/conversations/relay/turns?first=0&last=1")).json()["turns"]
    assert [turn["content"] for turn in turns] == [turn["content"] for turn in TURNS[:2]]
    whole = (await http.get(f"/ui/api/conversations/relay/turns/{turns[1]['id']}")).json()
    assert whole["content"] == TURNS[1]["content"]
    view = (await http.get("/ui/api/conversations/relay/view?query=timeout&budget=1000")).json()
    assert TURNS[1]["content"] in view["text"]
    assert view["shown_tokens"] <= 1_000
    assert (await http.get("/ui/api/conversations/relay/brief")).json()["text"]
    (hit, *_) = (await http.get("/ui/api/search?query=timeout")).json()["hits"]
    assert hit["turn_id"] == turns[1]["id"]
    assert (await http.get("/ui/api/usage")).json()["total"]["requests"] == 0


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("conversations?limit=0", "limit"),
        ("conversations/relay/view?budget=7", "budget"),
        ("conversations/relay/turns?first=9&last=3", "last"),
        ("search?query=x&role=king", "role"),
    ],
)
async def test_wrong_fields_are_named(http: httpx2.AsyncClient, path: str, named: str) -> None:
    await store(http)
    response = await http.get(f"/ui/api/{path}")
    assert (response.status_code, named in response.json()["error"]["message"]) == (400, True)


async def test_nothing_changes_without_the_token_of_the_page(http: httpx2.AsyncClient) -> None:
    await store(http)
    for action, body in (("retention", {"days": 1}), ("forget", {"confirm": "relay"}), ("revert", {"turn_id": "t0"})):
        path = f"/ui/api/conversations/relay/{action}"
        for token in (b"", b"guess", b"\xe9"):
            assert (await http.post(path, json=body, headers={b"x-page-token": token})).status_code == 400
        assert (await http.get(path)).status_code == 405
    assert (await http.get("/ui/api/conversations/relay")).json()["retention_days"] == 30


async def test_the_page_changes_retention_and_head_and_forgets(http: httpx2.AsyncClient) -> None:
    await store(http)
    assert (await change(http, "relay/retention", {"days": 7})).json()["retention_days"] == 7
    first = (await http.get("/ui/api/conversations/relay/turns?last=0")).json()["turns"][0]["id"]
    assert (await change(http, "relay/revert", {"turn_id": first})).json()["head"] == first
    one = (await http.get("/ui/api/conversations/relay")).json()
    assert [branch["parts_at"] for branch in one["branches"]] == [1]
    assert (await change(http, "relay/forget", {"confirm": "other"})).status_code == 400
    assert (await change(http, "relay/forget", {"confirm": "relay"})).json()["turns"] == 3
    assert (await http.get("/ui/api/conversations/relay")).status_code == 404


async def test_nobody_sees_or_changes_anothers_conversations(
    two: tuple[httpx2.AsyncClient, httpx2.AsyncClient],
) -> None:
    alice, bob = two
    await store(alice)
    assert (await bob.get("/ui/api/conversations")).json()["conversations"] == []
    for path in ("", "/outline", "/turns", "/view", "/brief"):
        assert (await bob.get(f"/ui/api/conversations/relay{path}")).status_code == 404
    assert (await change(bob, "relay/forget", {"confirm": "relay"})).status_code == 404
    assert (await bob.get("/ui/api/search?query=relay")).json()["hits"] == []
    assert (await alice.get("/ui/api/conversations/relay")).status_code == 200


async def test_a_foreign_origin_is_refused(http: httpx2.AsyncClient) -> None:
    response = await http.get("/ui/api/start", headers={"origin": "https://evil.example"})
    assert response.status_code == 403


async def test_a_key_opens_one_page_and_nothing_else_opens_it(settings: Settings) -> None:
    app = build_app(settings, "127.0.0.1", page_key="k" * 43)
    async with running(app), client_of(app) as client:
        for path in ("/ui/api/conversations", "/ui/api/start", "/v1/memory", "/mcp"):
            assert (await client.get(path)).status_code == 401
        assert (await client.post("/ui/api/session", json={"key": "wrong"})).status_code == 400
        token = (await client.post("/ui/api/session", json={"key": "k" * 43})).json()["token"]
        assert (await client.post("/ui/api/session", json={"key": "k" * 43})).status_code == 400
        headers = {"authorization": f"Bearer {token}"}
        assert (await client.get("/ui/api/conversations", headers=headers)).status_code == 200
        assert (await client.get("/ui/api/conversations", headers={"authorization": "Bearer x"})).status_code == 401


async def test_a_server_without_a_key_exchanges_none(http: httpx2.AsyncClient) -> None:
    assert (await http.post("/ui/api/session", json={"key": "x"})).status_code == 400
