"""Shared spaces over MCP, the HTTP APIs, the page and the gateway: each right permits what it says, and strangers learn
nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ctxmem_mcp.http_api.auth.access import SPACES
from ctxmem_mcp.http_api.middleware import PUBLIC_PATHS
from ctxmem_mcp.http_api.openapi import DOCUMENT
from ctxmem_mcp.http_api.page.access import CHANGE_HEADER
from ctxmem_mcp.mcp_server.tools import TOOLS
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.team.records import Right
from tests.http_api.test_principals import SECRET, Ids, arguments_on, call, create_data, rpc, session_of
from tests.http_api.test_sessions import create
from tests.team.teams import Clients, in_space, served_team, share

pytestmark = pytest.mark.anyio

RIGHTS = {"reader": Right.READ, "writer": Right.CONTINUE, "manager": Right.MANAGE}
STRANGER = "stranger"
# What each tool needs.
TOOL_RIGHTS = {
    "append_turn": Right.CONTINUE, "sync_transcript": Right.CONTINUE, "get_context": Right.READ, "hand_off": Right.READ,
    "expand_node": Right.READ, "search_turns": Right.READ, "list_conversations": Right.READ,
    "revert_to": Right.CONTINUE, "write_summary": Right.CONTINUE, "forget_conversation": Right.MANAGE,
}  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path, durability="normal", upstream_base_url="http://127.0.0.1:9/v1")


@pytest.fixture
async def team(settings: Settings) -> AsyncIterator[Clients]:
    """A member for each right, in the space `web`, and a stranger."""
    async with served_team(settings, *RIGHTS, STRANGER) as clients:
        await share(settings.data_dir, "web", RIGHTS)
        yield {**{name: in_space(clients[name], "web") for name in RIGHTS}, STRANGER: clients[STRANGER]}


def test_every_tool_has_a_right() -> None:
    assert TOOL_RIGHTS.keys() == {tool.name for tool in TOOLS}


async def test_a_tool_does_what_the_right_permits(team: Clients) -> None:
    ids = await create_data(team["manager"])
    tools = sorted(TOOL_RIGHTS, key=lambda tool: TOOL_RIGHTS[tool])
    for name, right in RIGHTS.items():
        for tool in tools:
            before = await session_of(team["manager"], ids)
            result = await call(team[name], tool, **arguments_on(tool, ids))
            assert bool(result.get("isError")) is (TOOL_RIGHTS[tool] > right), (name, tool, result)
            if result.get("isError"):
                assert f"needs the right '{TOOL_RIGHTS[tool].word}'" in json.dumps(result)
                assert await session_of(team["manager"], ids) == before


def operations(ids: Ids) -> list[tuple[Right, str, str, Any]]:
    """HTTP requests on the manager's data, each with the right that it needs; what removes it is last."""
    session, page = f"/v1/chat/sessions/{ids.session}", f"/ui/api/conversations/{ids.session}"
    messages = {"messages": [{"role": "user", "content": "hello"}]}
    return [
        (Right.READ, "GET", session, None),
        (Right.READ, "GET", f"{session}/messages", None),
        (Right.READ, "GET", f"{session}/context?query=QUAGGA", None),
        (Right.READ, "GET", "/v1/chat/sessions", None),
        (Right.READ, "GET", f"/v1/spaces/{ids.space}", None),
        (Right.READ, "GET", "/v1/usage", None),
        (Right.READ, "GET", page, None),
        (Right.READ, "GET", f"{page}/turns", None),
        (Right.READ, "GET", f"{page}/view", None),
        (Right.READ, "GET", "/ui/api/conversations", None),
        (Right.READ, "GET", "/ui/api/usage", None),
        (Right.READ, "GET", "/members", None),
        (Right.CONTINUE, "POST", "/v1/memory", messages),
        (Right.CONTINUE, "POST", "/v1/chat/sessions", {"name": "new"}),
        (Right.CONTINUE, "POST", f"{session}/messages", {"role": "user", "content": "hi"}),
        (Right.CONTINUE, "POST", "/v1/spaces", {"name": "group"}),
        (Right.CONTINUE, "PATCH", f"/v1/spaces/{ids.space}", {"description": "changed"}),
        (Right.CONTINUE, "POST", f"/v1/spaces/{ids.space}/set-default", None),
        (Right.CONTINUE, "POST", "/v1/chat/completions", {"model": "m:memory", **messages}),
        (Right.CONTINUE, "POST", f"{page}/revert", {"turn_id": ids.turn}),
        (Right.MANAGE, "POST", f"{page}/retention", {"days": 9}),
        (Right.MANAGE, "PUT", "/members/token:new", {"right": "read"}),
        (Right.MANAGE, "DELETE", "/members/new", None),
        (Right.MANAGE, "DELETE", f"/v1/spaces/{ids.space}", None),
        (Right.MANAGE, "POST", f"{page}/forget", {"confirm": "-"}),
        (Right.MANAGE, "DELETE", session, None),
    ]


async def test_an_http_request_does_what_the_right_permits(team: Clients) -> None:
    ids = await create_data(team["manager"])
    token = (await team["manager"].get("/ui/api/start")).json()["page_token"]
    for name, right in RIGHTS.items():
        for needed, method, path, body in operations(ids):
            before = await session_of(team["manager"], ids)
            response = await team[name].request(method, path, json=body, headers={CHANGE_HEADER: token})
            assert (response.status_code == 403) is (needed > right), (name, method, path, response.text)
            if needed > right:
                assert f"needs the right '{needed.word}'" in response.text
                assert SECRET not in response.text
                assert await session_of(team["manager"], ids) == before
            else:  # the model that the gateway forwards to is unreachable, and nothing is confirmed
                assert response.status_code in (200, 502) or path.endswith("/forget"), (name, path, response.text)


async def test_a_stranger_gets_the_response_of_a_space_that_does_not_exist(team: Clients) -> None:
    ids = await create_data(team["manager"])
    there, nowhere = in_space(team[STRANGER], "web"), in_space(team[STRANGER], "bew")
    paths = {path: one for path, one in DOCUMENT["paths"].items() if not path.startswith(SPACES)}
    documented = [(method, path) for path, methods in paths.items() for method in methods if method != "parameters"]
    requests = [(method, path) for _, method, path, _ in operations(ids)] + documented
    for method, path in [*requests, ("POST", "/mcp"), ("GET", "/mcp"), ("GET", "/nothing"), ("GET", "/ui/api/start")]:
        first, second = [await http.request(method.upper(), path, json={}) for http in (there, nowhere)]
        assert first.status_code == second.status_code, path
        assert first.text.replace("'web'", "'bew'") == second.text
        assert first.status_code == 404 or path in PUBLIC_PATHS, path
        names = {name for name in first.headers if not name.startswith("x-request")}
        assert names == {name for name in second.headers if not name.startswith("x-request")}
    assert (await team[STRANGER].get(SPACES)).json() == {"spaces": []}


async def test_the_page_of_a_space_stays_in_the_space(team: Clients) -> None:
    response = await team["reader"].get("/ui", follow_redirects=True)
    assert (response.status_code, response.url.path) == (200, "/spaces/web/ui/")


async def test_own_memories_and_spaces_are_apart(team: Clients, settings: Settings) -> None:
    await share(settings.data_dir, "api", {"manager": Right.MANAGE})
    other = in_space(team["manager"], "api")
    for http, word in ((team["manager"], "ALPHA"), (other, "BRAVO"), (team[STRANGER], "CHARLIE")):
        await call(http, "append_turn", role="user", content=f"{word} is here", conversation_id="same")
    for http, own in ((team["reader"], "ALPHA"), (other, "BRAVO"), (team[STRANGER], "CHARLIE")):
        for found in (
            await call(http, "search_turns", query="is here"),
            await call(http, "get_context"),
            await call(http, "list_conversations"),
            await rpc(http, "resources/read", uri="ctxmem://conversations/same/turns/t0"),
        ):
            assert {word for word in ("ALPHA", "BRAVO", "CHARLIE") if word in json.dumps(found)} == {own}
    listed = (await team["manager"].get(f"http://127.0.0.1:8377{SPACES}")).json()["spaces"]
    assert listed == [{"name": "api", "right": "manage"}, {"name": "web", "right": "manage"}]


async def test_managers_share_and_members_leave(team: Clients) -> None:
    stranger = in_space(team[STRANGER], "web")
    assert (await stranger.get("/members")).status_code == 404
    response = await team["manager"].put(f"/members/{STRANGER}", json={"right": "read"})
    assert response.json() == {"principal": STRANGER, "right": "read"}
    assert {"principal": STRANGER, "right": "read"} in (await stranger.get("/members")).json()["members"]
    assert (await stranger.delete("/members/reader")).status_code == 403
    assert (await stranger.delete(f"/members/{STRANGER}")).status_code == 200
    assert (await stranger.get("/members")).status_code == 404
    for body in ({}, {"right": "own"}, {"right": "read", "days": 3}):
        assert (await team["manager"].put("/members/reader", json=body)).status_code == 400
    assert (await team["manager"].delete("/members/nobody")).status_code == 404
    assert (await team[STRANGER].get("/members")).status_code == 404


async def test_what_is_stored_in_a_space_stays_when_its_author_leaves(team: Clients) -> None:
    session = (await create(team["writer"], name="plan"))["id"]
    await team["manager"].delete("/members/writer")
    assert (await team["writer"].get(f"/v1/chat/sessions/{session}")).status_code == 404
    assert (await team["reader"].get(f"/v1/chat/sessions/{session}")).json()["data"]["name"] == "plan"


async def test_a_clients_paths_reach_no_other_space(team: Clients, settings: Settings) -> None:
    await share(settings.data_dir, "api", {"manager": Right.MANAGE})
    session = (await create(in_space(team["manager"], "api"), name=SECRET))["id"]
    reader: httpx2.AsyncClient = team["reader"]
    for path in (
        f"/spaces/api/v1/chat/sessions/{session}", f"/../api/v1/chat/sessions/{session}",
        f"/%2e%2e/api/v1/chat/sessions/{session}", f"/spaces/web/../api/v1/chat/sessions/{session}",
    ):  # fmt: skip
        response = await reader.get(f"http://127.0.0.1:8377/spaces/web{path}")
        assert response.status_code == 404
        assert SECRET not in response.text
